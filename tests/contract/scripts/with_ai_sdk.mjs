// AI SDK: `generateText` and `streamText` over `createOpenAICompatible`.
import { QUESTION, ROOM, TRIES, Person, Time, Weather, called, refusalOf, serve } from "./contract.mjs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, isStepCount, streamText, tool } from "ai";

const TOOLS = {
  weather: tool({ description: "Weather", inputSchema: Weather, execute: async ({ city }) => `${city}: hujan` }),
  time: tool({ description: "Time", inputSchema: Time, execute: async ({ zone }) => `${zone}: 10.00` }),
};
// Forced in the first step, and none in the next: the model has no say in it.
const firstCall = (toolChoice) => ({
  tools: TOOLS,
  stopWhen: isStepCount(2),
  prepareStep: ({ stepNumber }) =>
    stepNumber === 0 ? { toolChoice } : { toolChoice: "none" },
});

function modelOf(server, { name = server.model, apiKey = server.api_key } = {}) {
  return createOpenAICompatible({
    name: "sambung",
    baseURL: server.base_url,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  })(name);
}

/** Parameters that the SDK has no option for. */
const also = (fields) => ({ providerOptions: { sambung: fields } });

function callsIn(calls) {
  return calls.map((call) => called(call.toolName, call.input));
}

async function collected(stream, most = Infinity) {
  const pieces = [];
  for await (const piece of stream) {
    pieces.push(piece);
    if (pieces.length === most) break;
  }
  return pieces;
}

await serve({
  async chat(server) {
    const answer = await generateText({ model: modelOf(server), prompt: QUESTION, maxOutputTokens: 20 });
    return {
      text: answer.text,
      finish_reason: answer.finishReason,
      usage: [answer.usage.inputTokens, answer.usage.outputTokens],
    };
  },
  async stream(server) {
    const asked = { model: modelOf(server), prompt: QUESTION, maxOutputTokens: 20, temperature: 0 };
    const answer = streamText(asked);
    const pieces = await collected(answer.textStream);
    const usage = await answer.usage;
    return { pieces, whole: (await generateText(asked)).text, usage: [usage.inputTokens, usage.outputTokens] };
  },
  async tool_loop(server) {
    const forced = firstCall({ type: "tool", toolName: "weather" });
    const answer = await generateText({ model: modelOf(server), prompt: QUESTION, maxOutputTokens: ROOM, ...forced });
    return { calls: callsIn(answer.steps[0].toolCalls), answer: answer.text };
  },
  async thoughtful_loop(server) {
    const forced = firstCall({ type: "tool", toolName: "weather" });
    const [first] = (await generateText({ model: modelOf(server), prompt: QUESTION, ...forced })).steps;
    return { calls: callsIn(first.toolCalls), reasoning: first.reasoningText };
  },
  async stream_call(server) {
    const asked = { model: modelOf(server), prompt: QUESTION, maxOutputTokens: ROOM, tools: TOOLS };
    return { calls: callsIn(await streamText({ ...asked, toolChoice: "required" }).toolCalls) };
  },
  async parallel_calls(server) {
    let answer;
    for (let seed = 0; seed < TRIES; seed++) {
      const asked = { model: modelOf(server), prompt: QUESTION, maxOutputTokens: ROOM, temperature: 1, seed };
      answer = await generateText({ ...asked, ...firstCall("required") });
      if (answer.steps[0].toolCalls.length > 1) break;
    }
    return { calls: callsIn(answer.steps[0].toolCalls), answer: answer.text };
  },
  async parse(server) {
    const asked = { model: modelOf(server), prompt: QUESTION, maxOutputTokens: ROOM };
    return (await generateText({ ...asked, output: Output.object({ schema: Person }) })).output;
  },
  async stream_parse(server) {
    const asked = { model: modelOf(server), prompt: QUESTION, maxOutputTokens: ROOM };
    const answer = streamText({ ...asked, output: Output.object({ schema: Person }) });
    const partial = (await collected(answer.partialOutputStream)).length;
    return { partial, value: await answer.output };
  },
  async thinking(server) {
    const think = async (fields) => {
      const answer = await generateText({ model: modelOf(server), prompt: QUESTION, ...also(fields) });
      return {
        reasoning: answer.reasoningText ?? null,
        text: answer.text,
        reasoning_tokens: answer.usage.outputTokenDetails.reasoningTokens,
      };
    };
    return {
      on: await think({ reasoningEffort: "high" }),
      off: await think({ chat_template_kwargs: { enable_thinking: false } }),
      budget: await think({ thinking_token_budget: 5 }),
    };
  },
  async vision(server) {
    const look = async (url) => {
      const content = [
        { type: "text", text: "Apa ini?" },
        { type: "image", image: url },
      ];
      const messages = [{ role: "user", content }];
      return (await generateText({ model: modelOf(server), messages, maxOutputTokens: 20, temperature: 0 })).text;
    };
    return { red: await look(server.red), blue: await look(server.blue) };
  },
  async errors(server) {
    const ask = (options, fields = {}) =>
      refusalOf(() => generateText({ model: modelOf(server, options), prompt: QUESTION, maxRetries: 0, ...fields }));
    return {
      unknown_model: await ask({ name: "gpt-none" }),
      bad_value: await ask({}, { temperature: 3 }),
      wrong_key: await ask({ apiKey: "another-key" }),
    };
  },
  async retry(server) {
    return { pieces: await collected(streamText({ model: modelOf(server), prompt: QUESTION }).textStream) };
  },
  async resume(server) {
    const fields = also({ session_id: server.session_id, ignore_eos: true });
    const asked = { model: modelOf(server), prompt: QUESTION, maxOutputTokens: 400, ...fields };
    const before = await collected(streamText(asked).textStream, 3);
    const headers = { "Last-Event-ID": `${server.session_id}:${before.length}` };
    const rest = await collected(streamText({ ...asked, headers }).textStream);
    return { before, rest, whole: (await generateText(asked)).text };
  },
});
