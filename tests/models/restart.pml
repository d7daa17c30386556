/* A detached answer that inference has lost in its middle runs anew, unless somebody reads it: log.restart
   between the stream stage, which may be killed anywhere, and readers in gateways, which come at any time
   (shm/log.h, stages/stream/restart.c, response_log_restart.c).
   Run 1 has logged one event. Inputs that are left: 1 RESTART, 2 a delta of run 2, 3 its DONE.
   A kill takes effect between two instructions of the victim, and all its earlier stores become visible.
   To be shown: a reader sees events of one run only, and all of them to its end; nothing that it has seen goes;
   an answer that nobody reads is not given up; what was dropped is never given up.
   Variants (choose one):
     -DLOOKFIRST   a reader looks at `restart` before it sets its mark
     -DNOASK       stream looks for marks before it says that it asks
     -DLATEMARK    the reader's mark waits in a store buffer while it looks      (no seq_cst)
     -DLATEASK     stream's question waits in one while it looks for marks       (no seq_cst)
     -DUNDECIDED   the log is dropped without a word that it will be
     -DNOFINISH    a successor does not finish a drop
     -DCLEARFIRST  `restart` is cleared before the log is empty
     -DNOHEADSEQ   what was dropped does not say which input said so
*/
#ifndef KILLS
#define KILLS 2
#endif
#ifndef READERS
#define READERS 2
#endif
#define NONE 0
#define ASKED 1
#define DROP 2
#define LOST 3
#define WAITS (restart == ASKED || restart == DROP)

byte restart = NONE;
bool mark[READERS];           /* FOLLOW_READ, each written by its own gateway only */
bool marking[READERS];        /* in a store buffer */
bool asking = false;          /* likewise */
byte life = 1, n = 1;         /* what the log holds: n events of that run */
bool whole = true;            /* all extents that the head names are there */
byte ended = 0;               /* 1: an error, 2: DONE */
byte last = 0;                /* the last input that is in the log */
byte acked = 0;               /* inputs <= acked are acknowledged */
bool dropped = false;         /* ghost */
byte kills = 0;
bool kreq = false, finished = false;

active proctype killer() {
  do :: kills < KILLS -> atomic { kills++; kreq = true }
     :: break
  od
}

/* Store buffers empty themselves in time. */
active proctype buffers() {
  byte i;
end:
  do :: asking -> atomic { asking = false; if :: restart == NONE -> restart = ASKED :: else -> skip fi }
     :: atomic { marking[0] -> marking[0] = false; mark[0] = true }
#if READERS > 1
     :: atomic { marking[1] -> marking[1] = false; mark[1] = true }
#endif
  od
}

#if READERS > 1
#define ANYMARK (mark[0] || mark[1])
#else
#define ANYMARK (mark[0])
#endif
/* One store: a kill comes before it or after it. */
#define STEP(what) if :: atomic { kreq -> kreq = false; goto attach } :: atomic { !kreq -> what } fi

active proctype stream() {
  byte decision;
  bool seen;
attach:
#ifndef NOFINISH
  if :: restart == DROP ->
       STEP(whole = true; n = 0; life = 0);
       STEP(last = 1);
       STEP(restart = NONE)
     :: else
  fi;
#endif
  assert(whole);              /* or the log is refused */
  do
  :: acked == 0 ->
     if :: ended || last >= 1 -> skip
        :: else ->
           seen = false;
#ifdef NOASK
           STEP(seen = ANYMARK);
#endif
           if :: restart == NONE ->
#ifdef LATEASK
                STEP(asking = true)
#else
                STEP(restart = ASKED)
#endif
              :: else
           fi;
           decision = restart;
           if :: decision == DROP || decision == LOST -> skip
              :: else ->
#ifndef NOASK
                STEP(seen = ANYMARK);
#endif
                decision = (seen -> LOST : DROP);
#ifdef UNDECIDED
                if :: decision == LOST -> STEP(restart = LOST; asking = false) :: else fi
#else
                STEP(restart = decision; asking = false)
#endif
           fi;
           if :: decision == LOST ->
                STEP(n++; ended = 1; last = 1)
              :: else ->
                dropped = true;
#ifdef CLEARFIRST
                STEP(restart = NONE);
#endif
                STEP(whole = false);
                STEP(whole = true; n = 0; life = 0);
#ifndef NOHEADSEQ
                STEP(last = 1);
#endif
                STEP(restart = NONE)
           fi
     fi;
     STEP(acked = 1)
  :: acked == 1 ->
     if :: ended || last >= 2 -> skip
        :: else -> STEP(life = 2; n++; last = 2)
     fi;
     STEP(acked = 2)
  :: acked == 2 ->
     if :: ended || last >= 3 -> skip
        :: else -> STEP(n++; ended = 2; last = 3)
     fi;
     STEP(acked = 3)
  :: acked == 3 -> break
  od;
  finished = true
}

proctype reader(byte me) {
  byte p = 0, its = 0;
#ifdef LOOKFIRST
  (!WAITS);
  mark[me] = true;
#else
#ifdef LATEMARK
  marking[me] = true;
#else
  mark[me] = true;
#endif
  (!WAITS);
#endif
  do
  :: atomic { p > n -> assert(false) }   /* what it has seen is gone */
  :: atomic { p < n ->
       assert(whole && (its == 0 || its == life));
       its = (its == 0 -> life : its);
       p++ }
  :: atomic { p == n && ended -> break }
  od;
  assert((ended == 1 && its == 1 && p == 2) || (ended == 2 && its == 2 && p == 2))
}

init {
  byte i = 0;
  do :: i < READERS -> run reader(i); i++ :: else -> break od
}

active proctype verdict() {
  finished;
  assert(ended != 0);
  assert(!(dropped && restart == LOST));
  assert(restart != LOST || ANYMARK)
}
