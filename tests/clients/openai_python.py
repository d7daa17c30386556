"""The official Python client. Usage: openai_python.py CASE BASE_URL; prints what it saw as one JSON line."""

import asyncio
import json
import sys

import openai

name, base_url = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)


def say(content, **more):
    return {"model": "any", "messages": [{"role": "user", "content": content}], **more}


def failed(error):
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None), "message": str(error)}


def unary():
    raw = client.chat.completions.with_raw_response.create(**say("one two three"))
    answer = raw.parse()
    return {"text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason,
            "usage": answer.usage.model_dump(), "request_id": answer._request_id,
            "headers": {k.lower(): v for k, v in raw.headers.items()}}


def stream():
    text, finish = "", None
    for chunk in client.chat.completions.create(**say("one two three", stream=True)):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return {"text": text, "finish": finish}


def many():
    async def run():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60) as many_client:
            async def one(n):
                text = ""
                async for chunk in await many_client.chat.completions.create(**say(f"number {n}", stream=True)):
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                return text
            return await asyncio.gather(*[one(n) for n in range(50)])
    return {"texts": asyncio.run(run())}


def broken():
    text = ""
    try:
        for chunk in client.chat.completions.create(**say("@cut", stream=True)):
            for choice in chunk.choices:
                text += choice.delta.content or ""
        return {"text": text, "error": None}
    except openai.APIError as error:
        return {"text": text, **failed(error)}
    except Exception as error:  # noqa: BLE001: whatever it throws is what a user would see
        return {"text": text, **failed(error)}


def refused():
    try:
        client.chat.completions.create(**say("@http_400"))
        return {"error": None}
    except openai.APIStatusError as error:
        return failed(error)


def retried():
    """A shed request comes back after what the server says, by the client's own rules."""
    patient = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=2, timeout=60)
    answer = patient.chat.completions.create(**say("@flaky"))
    return {"text": answer.choices[0].message.content}


def embeddings():
    rows = client.embeddings.create(model="any", input=["hi", "there"])
    return {"rows": [row.embedding for row in rows.data], "usage": rows.usage.model_dump()}


def completions():
    answer = client.completions.create(model="any", prompt="one two")
    return {"text": answer.choices[0].text, "finish": answer.choices[0].finish_reason}


def responses():
    answer = client.responses.create(model="any", input="one two")
    kinds, text = [], ""
    for event in client.responses.create(model="any", input="one two", stream=True):
        kinds.append(event.type)
        text += event.delta if event.type == "response.output_text.delta" else ""
    return {"text": answer.output_text, "status": answer.status, "kinds": kinds, "streamed": text}


print(json.dumps({f.__name__: f for f in (unary, stream, many, broken, refused, retried, embeddings, completions,
                                          responses)}[name]()))
