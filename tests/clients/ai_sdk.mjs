// The AI SDK over its OpenAI-compatible provider. Usage: ai_sdk.mjs CASE BASE_URL.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, streamText } from "ai";

const [name, baseURL] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "millrace", baseURL, apiKey: "unused", includeUsage: true });
const model = provider("any");

async function stream(prompt) {
  const seen = { text: "", errors: [], finish: null, usage: null };
  const result = streamText({ model, prompt, maxRetries: 0, onError: ({ error }) => { seen.errors.push(String(error?.message ?? error)); } });
  try {
    for await (const part of result.textStream) seen.text += part;
    seen.finish = await result.finishReason;
    seen.usage = await result.usage;
  } catch (error) {
    seen.thrown = String(error?.message ?? error);
  }
  return seen;
}

const cases = {
  unary: async () => {
    const { text, finishReason, usage } = await generateText({ model, prompt: "one two three", maxRetries: 0 });
    return { text, finish: finishReason, usage };
  },
  stream: () => stream("one two three"),
  broken: () => stream("@cut"),
  embeddings: async () => ({ rows: (await embedMany({ model: provider.embeddingModel("any"), values: ["hi", "there"] })).embeddings }),
};

console.log(JSON.stringify(await cases[name]()));
