// OpenAI's JavaScript package, the same script for its versions 6 and 7.
import { QUESTION, ROOM, TRIES, Person, Time, Weather, called, refusalOf, serve } from "./contract.mjs";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";

const HELLO = [{ role: "user", content: QUESTION }];
const TOOLS = [
  zodFunction({ name: "weather", description: "Weather", parameters: Weather }),
  zodFunction({ name: "time", description: "Time", parameters: Time }),
];

function clientOf(server, apiKey = server.api_key) {
  return new OpenAI({ baseURL: server.base_url, apiKey });
}

function create(server, fields, options) {
  return clientOf(server).chat.completions.create({ model: server.model, messages: HELLO, ...fields }, options);
}

function callsIn(message) {
  return message.tool_calls.map((call) => called(call.function.name, call.function.arguments));
}

async function answerTo(server, message) {
  const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "hujan" }));
  const answer = await create(server, { messages: [...HELLO, message, ...results], max_tokens: 20 });
  return answer.choices[0].message.content;
}

async function piecesOf(stream, most = Infinity) {
  const pieces = [];
  for await (const chunk of stream) {
    const text = chunk.choices[0]?.delta.content;
    if (text) pieces.push(text);
    if (pieces.length === most) break;
  }
  return pieces;
}

await serve({
  async chat(server) {
    const answer = await create(server, { max_tokens: 20 });
    return {
      text: answer.choices[0].message.content,
      finish_reason: answer.choices[0].finish_reason,
      usage: [answer.usage.prompt_tokens, answer.usage.completion_tokens],
    };
  },
  async stream(server) {
    const asked = { max_tokens: 20, temperature: 0 };
    const stream = await create(server, { ...asked, stream: true, stream_options: { include_usage: true } });
    const pieces = [];
    let usage;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
      usage = chunk.usage ?? usage;
    }
    const whole = (await create(server, asked)).choices[0].message.content;
    return { pieces, whole, usage: [usage.prompt_tokens, usage.completion_tokens] };
  },
  async tool_loop(server) {
    const named = { type: "function", function: { name: "weather" } };
    const asked = { tools: TOOLS, tool_choice: named, max_tokens: ROOM };
    const message = (await create(server, asked)).choices[0].message;
    return { calls: callsIn(message), answer: await answerTo(server, message) };
  },
  async stream_call(server) {
    const asked = { model: server.model, messages: HELLO, tools: TOOLS, tool_choice: "required", max_tokens: ROOM };
    const stream = clientOf(server).chat.completions.stream(asked);
    return { calls: callsIn(await stream.finalMessage()) };
  },
  async parallel_calls(server) {
    let answer;
    for (let seed = 0; seed < TRIES; seed++) {
      const asked = { tools: TOOLS, tool_choice: "required", max_tokens: ROOM, temperature: 1, seed };
      answer = (await create(server, asked)).choices[0];
      if (answer.finish_reason === "tool_calls" && answer.message.tool_calls.length > 1) break;
    }
    return { calls: callsIn(answer.message), answer: await answerTo(server, answer.message) };
  },
  async parse(server) {
    const answer = await clientOf(server).chat.completions.parse({
      model: server.model,
      messages: HELLO,
      max_tokens: ROOM,
      response_format: zodResponseFormat(Person, "person"),
    });
    return answer.choices[0].message.parsed;
  },
  async stream_parse(server) {
    let partial = 0;
    const stream = clientOf(server)
      .chat.completions.stream({
        model: server.model,
        messages: HELLO,
        max_tokens: ROOM,
        response_format: zodResponseFormat(Person, "person"),
      })
      .on("content.delta", ({ parsed }) => (partial += parsed ? 1 : 0));
    return { value: (await stream.finalChatCompletion()).choices[0].message.parsed, partial };
  },
  async logprobs(server) {
    const [choice] = (await create(server, { max_tokens: 10, logprobs: true, top_logprobs: 2 })).choices;
    const content = choice.logprobs.content;
    return {
      text: choice.message.content,
      tokens: content.map((token) => token.token),
      logprobs: content.map((token) => token.logprob),
      tops: content.map((token) => token.top_logprobs.length),
    };
  },
  async thinking(server) {
    const think = async (fields) => {
      const answer = await create(server, fields);
      return {
        reasoning: answer.choices[0].message.reasoning_content ?? null,
        text: answer.choices[0].message.content,
        reasoning_tokens: answer.usage.completion_tokens_details.reasoning_tokens,
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
      const asked = { messages: [{ role: "user", content }], max_tokens: 20, temperature: 0 };
      return (await create(server, asked)).choices[0].message.content;
    };
    return { red: await look(server.red), blue: await look(server.blue) };
  },
  async errors(server) {
    const stranger = clientOf(server, "another-key");
    return {
      unknown_model: await refusalOf(() => create(server, { model: "gpt-none" })),
      bad_value: await refusalOf(() => create(server, { temperature: 3 })),
      wrong_key: await refusalOf(() => stranger.chat.completions.create({ model: server.model, messages: HELLO })),
    };
  },
  async retry(server) {
    return { pieces: await piecesOf(await create(server, { stream: true })) };
  },
  async resume(server) {
    const asked = { max_tokens: 400, session_id: server.session_id, ignore_eos: true };
    const before = await piecesOf(await create(server, { ...asked, stream: true }), 3);
    const headers = { "Last-Event-ID": `${server.session_id}:${before.length}` };
    const rest = await piecesOf(await create(server, { ...asked, stream: true }, { headers }));
    return { before, rest, whole: (await create(server, asked)).choices[0].message.content };
  },
});
