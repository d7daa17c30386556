// LangChain's OpenAI chat model. Usage: langchain.mjs CASE BASE_URL.
import { ChatOpenAI } from "@langchain/openai";

const [name, baseURL] = process.argv.slice(2);
const chat = new ChatOpenAI({ model: "any", apiKey: "unused", maxRetries: 0, configuration: { baseURL } });

const cases = {
  unary: async () => {
    const answer = await chat.invoke("one two three");
    return { text: answer.content, usage: answer.usage_metadata };
  },
  stream: async () => {
    let text = "";
    for await (const chunk of await chat.stream("one two three")) text += chunk.content;
    return { text };
  },
  broken: async () => {
    let text = "";
    try {
      for await (const chunk of await chat.stream("@cut")) text += chunk.content;
      return { text, error: null };
    } catch (error) {
      return { text, error: error.constructor.name };
    }
  },
};

console.log(JSON.stringify(await cases[name]()));
