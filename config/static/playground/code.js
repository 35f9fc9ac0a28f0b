/** The request as code to copy: curl, Python with OpenAI's package, JavaScript without any. */

import { randomId } from "./answer.js";
import { config } from "./page.js";
import { requestOf } from "./request.js";

/** What OpenAI's package takes as arguments of its own; the rest is vLLM's and goes into `extra_body`. */
const EXTRA = new Set(["top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos"]);
/** Two of these with a number between them stand for a file. No text that a user writes contains it. */
const MARK = `<${randomId()}>`;

/** `[{name, code}]` for the turns up to the one that is asked about. Files are read by name from the current folder. */
export function codeOf(turns, parameters) {
  const files = [];
  const request = requestOf(config.model, turns, parameters, (file) => `${MARK}${files.push(file) - 1}${MARK}`);
  request.stream = true;
  return [
    { name: "curl", code: curl(request, files) },
    { name: "Python", code: python(request, files) },
    { name: "JavaScript", code: javaScript(request, files) },
  ];
}

const chatAddress = () => new URL(config.addresses.chat, location.href).href;
const dataPrefix = (file) => `data:${file.type};base64,`;

function curl(request, files) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const head = [`curl -N ${quote(chatAddress())} \\`, "  -H 'Content-Type: application/json' \\"];
  if (config.needsKey) head.push('  -H "Authorization: Bearer $API_KEY" \\');
  // Texts at even places, the numbers of files at odd ones.
  const parts = JSON.stringify(request, null, 2).split(MARK);
  if (!files.length) return [...head, `  -d ${quote(parts[0])}`].join("\n");
  const written = parts.map((part, place) =>
    place % 2
      ? `printf %s ${quote(dataPrefix(files[part]))}; base64 < ${quote(files[part].name)} | tr -d '\\n'`
      : `printf %s ${quote(part)}`,
  );
  // Through a pipe: a picture is too long for an argument.
  return [`{ ${written.join("\n  ")}\n} | ${head.join("\n")}`, "  --data-binary @-"].join("\n");
}

function python(request, files) {
  const extra = Object.fromEntries(Object.entries(request).filter(([name]) => EXTRA.has(name)));
  const named = Object.entries(request).filter(([name]) => !EXTRA.has(name));
  const base = chatAddress().replace(/\/chat\/completions$/, "");
  const value = (thing) => pythonValue(thing, files, 1);
  return [
    files.length ? "import base64" : null,
    config.needsKey ? "import os" : null,
    files.length || config.needsKey ? "" : null,
    "from openai import OpenAI",
    "",
    files.length ? "def file(name, kind):" : null,
    files.length ? '    with open(name, "rb") as opened:' : null,
    files.length ? '        return f"data:{kind};base64,{base64.b64encode(opened.read()).decode()}"' : null,
    files.length ? "\n" : null,
    `client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${config.needsKey ? 'os.environ["API_KEY"]' : '"unused"'})`,
    "stream = client.chat.completions.create(",
    ...named.map(([name, thing]) => `    ${name}=${value(thing)},`),
    Object.keys(extra).length ? `    extra_body=${value(extra)},` : null,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ]
    .filter((line) => line !== null)
    .join("\n");
}

function pythonValue(thing, files, depth) {
  const indent = "    ".repeat(depth);
  const inner = (one) => pythonValue(one, files, depth + 1);
  const lines = (all, open, close) => `${open}\n${all.map((one) => `${indent}    ${one},\n`).join("")}${indent}${close}`;
  if (thing === null) return "None";
  if (typeof thing === "boolean") return thing ? "True" : "False";
  if (typeof thing === "number") return String(thing);
  if (Array.isArray(thing)) return lines(thing.map(inner), "[", "]");
  if (typeof thing === "object") return lines(Object.entries(thing).map(([name, one]) => `${JSON.stringify(name)}: ${inner(one)}`), "{", "}");
  const [, number] = thing.split(MARK);
  if (number) return `file(${JSON.stringify(files[number].name)}, ${JSON.stringify(files[number].type)})`;
  return JSON.stringify(thing);
}

function javaScript(request, files) {
  const body = JSON.stringify(request, null, 2).replaceAll(
    new RegExp(`"${MARK}(\\d+)${MARK}"`, "g"),
    (_, number) => `file(${JSON.stringify(files[number].name)}, ${JSON.stringify(files[number].type)})`,
  );
  const key = config.needsKey ? "\n    Authorization: `Bearer ${process.env.API_KEY}`," : "";
  return [
    ...(files.length
      ? [
          'import { readFileSync } from "node:fs";',
          "",
          'const file = (name, kind) => `data:${kind};base64,${readFileSync(name, "base64")}`;',
        ]
      : []),
    `const request = ${body};`,
    `const response = await fetch(${JSON.stringify(chatAddress())}, {`,
    '  method: "POST",',
    `  headers: {\n    "Content-Type": "application/json",${key}\n  },`,
    "  body: JSON.stringify(request),",
    "});",
    'let rest = "";',
    "for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {",
    '  const lines = (rest + piece).split("\\n");',
    "  rest = lines.pop();",
    '  for (const line of lines.filter((one) => one.startsWith("data: {"))) {',
    "    const [choice] = JSON.parse(line.slice(6)).choices;",
    '    process.stdout.write(choice?.delta.content ?? "");',
    "  }",
    "}",
  ].join("\n");
}
