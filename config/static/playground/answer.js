/** An answer as it grows: what is known of it after each event of its stream. */

/** A new answer without events. Its id gives access to it, so it is random and cannot be guessed. */
export function newAnswer(turnId, parameters) {
  return {
    turn: turnId,
    sessionId: `play_${randomId()}`,
    parameters,
    state: "running",
    lastIndex: -1,
    content: "",
    reasoning: "",
    refusal: "",
    finishReason: null,
    usage: null,
    error: null,
    askedAt: Date.now(),
    firstAt: null,
    endedAt: null,
    // How often the line broke: {cause, last, next}.
    resumes: [],
    // Whether the last event had been waiting when the line was taken up again.
    lateEnd: false,
    wasCancelled: false,
  };
}

/** 128 bits of chance. `crypto.randomUUID` is not there on a page without TLS. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Takes one event into `answer`. True when it was the last one. */
export function takeEvent(answer, index, data) {
  answer.lastIndex = index;
  if (data === "[DONE]") return end(answer, answer.wasCancelled ? "cancelled" : "done");
  const chunk = JSON.parse(data);
  if (chunk.error) {
    answer.error = { message: chunk.error.message, code: chunk.error.code };
    return end(answer, "failed");
  }
  if (chunk.usage) answer.usage = chunk.usage;
  if (chunk.session_state === "cancelled") answer.wasCancelled = true;
  for (const { delta, finish_reason: reason } of chunk.choices) {
    const thought = delta.reasoning_content ?? "";
    const said = delta.content ?? "";
    if ((thought || said) && !answer.firstAt) answer.firstAt = Date.now();
    answer.reasoning += thought;
    answer.content += said;
    answer.refusal += delta.refusal ?? "";
    if (reason) answer.finishReason = reason;
  }
  return false;
}

export function end(answer, state) {
  answer.state = state;
  answer.endedAt = Date.now();
  return true;
}

export function fail(answer, { message, code = null }) {
  answer.error = { message, code };
  end(answer, "failed");
}

/** Tokens a second, from the first to the last; null where the time also counts a server that was away. */
export function speedOf({ usage, firstAt, endedAt, lateEnd, resumes }) {
  const seconds = (endedAt - firstAt) / 1000;
  const isMeasured = usage?.completion_tokens > 1 && firstAt && seconds > 0;
  return isMeasured && !lateEnd && resumes.every(({ cause }) => cause !== "lost") ? usage.completion_tokens / seconds : null;
}
