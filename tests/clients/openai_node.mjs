// The official Node client. Usage: openai_node.mjs CASE BASE_URL; prints what it saw as one JSON line.
import OpenAI from "openai";

const [name, baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const say = (content, more = {}) => ({ model: "any", messages: [{ role: "user", content }], ...more });

const failed = (error) => ({
  error: error.constructor.name, status: error.status ?? null, code: error.code ?? null, type: error.type ?? null,
  message: error.message,
});

async function drain(stream) {
  const seen = { text: "", finish: null, usage: null, roles: 0, ids: new Set(), created: new Set(), models: new Set(),
    chunks: 0, tools: [], choices: {} };
  for await (const chunk of stream) {
    seen.chunks += 1;
    seen.ids.add(chunk.id);
    seen.created.add(chunk.created);
    seen.models.add(chunk.model);
    if (chunk.usage) seen.usage = chunk.usage;
    for (const choice of chunk.choices) {
      if (choice.delta.role) seen.roles += 1;
      seen.choices[choice.index] = (seen.choices[choice.index] ?? "") + (choice.delta.content ?? "");
      for (const call of choice.delta.tool_calls ?? []) {
        const at = (seen.tools[call.index] ??= { id: null, name: null, arguments: "" });
        at.id ??= call.id ?? null;
        at.name ??= call.function?.name ?? null;
        at.arguments += call.function?.arguments ?? "";
      }
      if (choice.index === 0) {
        seen.text += choice.delta.content ?? "";
        seen.finish = choice.finish_reason ?? seen.finish;
      }
    }
  }
  for (const key of ["ids", "created", "models"]) seen[key] = [...seen[key]];
  return seen;
}

const cases = {
  unary: () => client.chat.completions.create(say("one two three")),
  stream: async () => drain(await client.chat.completions.create(say("one two three", { stream: true }))),
  usage: async () => drain(await client.chat.completions.create(
    say("one two", { stream: true, stream_options: { include_usage: true } }))),
  tools_stream: async () => drain(await client.chat.completions.create(say("@tools", { stream: true }))),
  tools_unary: () => client.chat.completions.create(say("@tools")),
  choices_stream: async () => drain(await client.chat.completions.create(say("@choices", { stream: true, n: 2 }))),
  choices_unary: () => client.chat.completions.create(say("@choices", { n: 2 })),
  extras_unary: () => client.chat.completions.create(say("@extras")),
  broken: async () => {
    const seen = { text: "" };
    try {
      for await (const chunk of await client.chat.completions.create(say("@cut", { stream: true })))
        seen.text += chunk.choices[0]?.delta?.content ?? "";
      return { ...seen, error: null };
    } catch (error) {
      return { ...seen, ...failed(error) };
    }
  },
  refused: () => client.chat.completions.create(say("@http_400")).catch(failed),
  limited: () => client.chat.completions.create(say("@http_429")).catch(failed),
  unknown_model: () => client.chat.completions.create({ ...say("hi"), model: "nobody" }).catch(failed),
  abort: async () => {
    const abort = new AbortController();
    const stream = await client.chat.completions.create(say("@stall_after_one", { stream: true }), { signal: abort.signal });
    for await (const chunk of stream)
      if (chunk.choices[0]?.delta?.content) break;
    abort.abort();
    return { aborted: true };
  },
  helper: async () => {
    const runner = client.chat.completions.stream(say("one two three"));
    let deltas = 0;
    runner.on("content", () => { deltas += 1; });
    return { final: await runner.finalContent(), deltas };
  },
  models: async () => ({ ids: (await client.models.list()).data.map((model) => model.id),
    one: await client.models.retrieve("listed") }),
  no_model: () => client.models.retrieve("nobody").catch(failed),
  embeddings: async () => {
    const float = await client.embeddings.create({ model: "any", input: ["hi", "there"], encoding_format: "float" });
    const base64 = await client.embeddings.create({ model: "any", input: ["hi", "there"] });
    return { model: float.model, float: float.data.map((row) => row.embedding),
      base64: base64.data.map((row) => Array.from(row.embedding)), usage: float.usage };
  },
  completions_unary: () => client.completions.create({ model: "any", prompt: "one two" }),
  completions_stream: async () => {
    let text = "";
    let finish = null;
    for await (const chunk of await client.completions.create({ model: "any", prompt: "one two", stream: true })) {
      text += chunk.choices[0]?.text ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    return { text, finish };
  },
  responses_unary: async () => {
    const response = await client.responses.create({ model: "any", input: "one two" });
    return { status: response.status, text: response.output_text, usage: response.usage, id: response.id };
  },
  responses_stream: async () => {
    const seen = { types: [], numbers: [], text: "" };
    for await (const event of await client.responses.create({ model: "any", input: "one two", stream: true })) {
      seen.types.push(event.type);
      seen.numbers.push(event.sequence_number);
      if (event.type === "response.output_text.delta") seen.text += event.delta;
    }
    return seen;
  },
  responses_items: async () => {
    const seen = {};
    for (const word of ["reasoning", "tools", "cut"]) {
      const tools = [{ type: "function", name: "weather", parameters: { type: "object", properties: {} }, strict: false }];
      const stream = client.responses.stream({ model: "any", input: `x @${word}`, tools });
      seen[word] = await stream.finalResponse().then((response) => ({ text: response.output_text,
        items: response.output.map((item) => item.arguments ?? item.type) }), failed);
    }
    return seen;
  },
  responses_background: async () => {
    let response = await client.responses.create({ model: "any", input: "one two", background: true });
    const first = response.status;
    while (response.status === "queued" || response.status === "in_progress") {
      await new Promise((resolve) => setTimeout(resolve, 20));
      response = await client.responses.retrieve(response.id);
    }
    const seen = { first, status: response.status, text: response.output_text, numbers: [] };
    const rest = await client.responses.retrieve(response.id, { stream: true, starting_after: 2 });
    for await (const event of rest) seen.numbers.push(event.sequence_number);
    return seen;
  },
};

console.log(JSON.stringify(await cases[name]()));
