// LangChain for JavaScript: `ChatOpenAI` with another base URL.
import { QUESTION, ROOM, TRIES, Person, Time, Weather, called, refusalOf, serve } from "./contract.mjs";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";

const HELLO = [new HumanMessage(QUESTION)];
const TOOLS = [
  tool(({ city }) => `${city}: hujan`, { name: "weather", description: "Weather", schema: Weather }),
  tool(({ zone }) => `${zone}: 10.00`, { name: "time", description: "Time", schema: Time }),
];

function modelOf(server, { apiKey = server.api_key, headers, ...fields } = {}) {
  const configuration = { baseURL: server.base_url, defaultHeaders: headers };
  return new ChatOpenAI({ model: server.model, apiKey, configuration, ...fields });
}

function callsIn(message) {
  return message.tool_calls.map((call) => called(call.name, call.args));
}

async function answerTo(server, message) {
  const results = message.tool_calls.map((call) => new ToolMessage({ content: "hujan", tool_call_id: call.id }));
  return (await modelOf(server, { maxTokens: 20 }).bindTools(TOOLS).invoke([...HELLO, message, ...results])).text;
}

async function piecesOf(stream, most = Infinity) {
  const pieces = [];
  for await (const chunk of stream) {
    if (chunk.text) pieces.push(chunk.text);
    if (pieces.length === most) break;
  }
  return pieces;
}

await serve({
  async chat(server) {
    const answer = await modelOf(server, { maxTokens: 20 }).invoke(QUESTION);
    return {
      text: answer.text,
      finish_reason: answer.response_metadata.finish_reason,
      usage: [answer.usage_metadata.input_tokens, answer.usage_metadata.output_tokens],
    };
  },
  async stream(server) {
    const model = modelOf(server, { maxTokens: 20, temperature: 0 });
    const pieces = [];
    let usage;
    for await (const chunk of await model.stream(QUESTION)) {
      if (chunk.text) pieces.push(chunk.text);
      usage = chunk.usage_metadata ?? usage;
    }
    return {
      pieces,
      whole: (await model.invoke(QUESTION)).text,
      usage: [usage.input_tokens, usage.output_tokens],
    };
  },
  async tool_loop(server) {
    const model = modelOf(server, { maxTokens: ROOM }).bindTools(TOOLS, { tool_choice: "weather", strict: true });
    const message = await model.invoke(HELLO);
    return { calls: callsIn(message), answer: await answerTo(server, message) };
  },
  async stream_call(server) {
    const model = modelOf(server, { maxTokens: ROOM }).bindTools(TOOLS, { tool_choice: "required", strict: true });
    let whole;
    for await (const chunk of await model.stream(HELLO)) whole = whole ? whole.concat(chunk) : chunk;
    return { calls: callsIn(whole) };
  },
  async parallel_calls(server) {
    let message;
    for (let seed = 0; seed < TRIES; seed++) {
      const model = modelOf(server, { maxTokens: ROOM, temperature: 1 });
      message = await model.bindTools(TOOLS, { tool_choice: "required", strict: true, seed }).invoke(HELLO);
      if (message.response_metadata.finish_reason === "tool_calls" && message.tool_calls.length > 1) break;
    }
    return { calls: callsIn(message), answer: await answerTo(server, message) };
  },
  async parse(server) {
    const model = modelOf(server, { maxTokens: ROOM }).withStructuredOutput(Person, { method: "jsonSchema" });
    return await model.invoke(QUESTION);
  },
  async stream_parse(server) {
    const model = modelOf(server, { maxTokens: ROOM }).withStructuredOutput(Person, { method: "jsonSchema" });
    const values = [];
    for await (const value of await model.stream(QUESTION)) values.push(value);
    return { partial: values.length, value: values.at(-1) };
  },
  async logprobs(server) {
    const model = modelOf(server, { maxTokens: 10, logprobs: true, topLogprobs: 2 });
    const answer = await model.invoke(QUESTION);
    const content = answer.response_metadata.logprobs.content;
    return {
      text: answer.text,
      tokens: content.map((token) => token.token),
      logprobs: content.map((token) => token.logprob),
      tops: content.map((token) => token.top_logprobs.length),
    };
  },
  async thinking(server) {
    const think = async (modelKwargs) => {
      const answer = await modelOf(server, { modelKwargs }).invoke(QUESTION);
      return {
        reasoning: null,
        text: answer.text,
        reasoning_tokens: answer.usage_metadata.output_token_details.reasoning ?? 0,
      };
    };
    return {
      on: await think({ reasoning_effort: "high" }),
      off: await think({ chat_template_kwargs: { enable_thinking: false } }),
      budget: await think({ thinking_token_budget: 5 }),
    };
  },
  async vision(server) {
    const look = async (url) => {
      const content = [
        { type: "text", text: "Apa ini?" },
        { type: "image_url", image_url: { url } },
      ];
      return (await modelOf(server, { maxTokens: 20, temperature: 0 }).invoke([new HumanMessage({ content })])).text;
    };
    return { red: await look(server.red), blue: await look(server.blue) };
  },
  async errors(server) {
    return {
      unknown_model: await refusalOf(() => modelOf(server, { model: "gpt-none" }).invoke(QUESTION)),
      bad_value: await refusalOf(() => modelOf(server, { temperature: 3 }).invoke(QUESTION)),
      wrong_key: await refusalOf(() => modelOf(server, { apiKey: "another-key" }).invoke(QUESTION)),
    };
  },
  async retry(server) {
    return { pieces: await piecesOf(await modelOf(server).stream(QUESTION)) };
  },
  async resume(server) {
    const modelKwargs = { session_id: server.session_id, ignore_eos: true };
    const asked = { maxTokens: 400, modelKwargs };
    const before = await piecesOf(await modelOf(server, asked).stream(QUESTION), 3);
    const headers = { "Last-Event-ID": `${server.session_id}:${before.length}` };
    const rest = await piecesOf(await modelOf(server, { ...asked, headers }).stream(QUESTION));
    return { before, rest, whole: (await modelOf(server, asked).invoke(QUESTION)).text };
  },
});
