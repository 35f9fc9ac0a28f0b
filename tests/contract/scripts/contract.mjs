// What the JavaScript clients share: the same as contract.py beside this file.
import { createInterface } from "node:readline";
import { z } from "zod";

export const QUESTION = "Apakah hujan di Solo?";
export const Weather = z.object({ city: z.enum(["Solo", "Bogor"]) });
export const Time = z.object({ zone: z.enum(["WIB", "WITA", "WIT"]) });
export const Person = z.object({
  name: z.string().max(15),
  kind: z.enum(["person", "company"]),
  streets: z
    .array(z.object({ name: z.string().max(15), number: z.int().min(1).max(300) }))
    .min(1)
    .max(2),
});
// Random weights call twice in about one of three answers.
export const TRIES = 40;
// Tokens, more than any case's answer needs.
export const ROOM = 600;

/** A call of a function, as a case reports it. */
export function called(name, args) {
  return { name, arguments: typeof args === "string" ? JSON.parse(args) : args };
}

/** The error that `ask` throws, as a case reports it. */
export async function refusalOf(ask) {
  try {
    return { type: "none", status: 200, message: String(await ask()) };
  } catch (error) {
    return { type: error.constructor.name, status: error.status ?? error.statusCode ?? null, message: error.message };
  }
}

/** Answer what the test asks for until it closes standard input. */
export async function serve(cases) {
  // Packages print at times; their texts go where the test shows them.
  console.log = console.info = console.warn = console.error;
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    let answer;
    try {
      answer = { result: await cases[asked.case](asked.server) };
    } catch (error) {
      answer = { failed: error.stack ?? String(error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}
