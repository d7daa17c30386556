// The EventSource of browsers: reads a job's events, is cut off by the test, and resumes by itself.
// Usage: eventsource.mjs URL; prints every event it got as one JSON list when the server says 204.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const events = [];
source.onmessage = ({ data, lastEventId }) => {
  events.push({ ...JSON.parse(data), lastEventId });
  console.error(`event ${events.length}`);
};
source.onerror = (error) => {
  if (source.readyState !== EventSource.CLOSED) return;
  console.log(JSON.stringify({ events, code: error.code ?? null }));
  process.exit(0);
};
