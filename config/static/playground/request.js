/** What is sent: the body of a chat request, of turns, files and parameters. */

/** The files as parts of a message's content. `urlOf` gives the address of a file: a data URL, or what stands for it. */
function contentOf({ text, files }, urlOf) {
  if (!files.length) return text;
  const parts = files.map((file) => {
    const kind = file.type.startsWith("video/") ? "video_url" : "image_url";
    return { type: kind, [kind]: { url: urlOf(file) } };
  });
  return text ? [...parts, { type: "text", text }] : parts;
}

/**
 * The request that `turns`, oldest first, ask for; the last one waits for its answer. Each turn is
 * `{text, files, answer?}`. Thoughts are not sent back, and neither are answers that never came.
 */
export function requestOf(model, turns, { system, ...parameters }, urlOf) {
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const [position, turn] of turns.entries()) {
    messages.push({ role: "user", content: contentOf(turn, urlOf) });
    if (position < turns.length - 1 && turn.answer?.content) messages.push({ role: "assistant", content: turn.answer.content });
  }
  return { model, messages, ...parameters };
}

/** The same with the files' own bytes, read now. */
export async function requestWithFiles(model, turns, parameters) {
  const urls = new Map();
  for (const file of turns.flatMap((turn) => turn.files)) urls.set(file, await dataUrl(file));
  return requestOf(model, turns, parameters, (file) => urls.get(file));
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    // The file's own type is what it was named for; a blob from the database keeps it.
    reader.readAsDataURL(file.blob);
  });
}
