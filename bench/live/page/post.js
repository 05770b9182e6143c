// Commands to the server, one after another: the server handles requests concurrently, so a later command could
// otherwise be executed first. An error is shown as one line near the control.

import { hold, release, setText } from "./dom.js";

// An error in the state of the server: shown when it begins, removed when it ends.
export function showTrouble(failure, trouble) {
  const text = trouble ?? "";
  if ((failure.trouble ?? "") === text) return;
  failure.trouble = text;
  setText(failure, text);
  failure.title = text; // a long text is cut
}

const SECONDS_MAX = 20; // for one command

let last = Promise.resolve();

export function post(path, body, failure) {
  last = last.then(() => send(path, body, failure));
  return last;
}

// Whether the server has accepted the command. Does not throw, so that the next command is sent.
async function send(path, body, failure) {
  let error = "";
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(SECONDS_MAX * 1000),
    });
    if (!response.ok) {
      const answer = await response.json().catch(() => ({}));
      error = answer.error ?? `${path} failed with status ${response.status}; reload the page`;
    }
  } catch {
    error = "cannot reach the server; check that `ridelake live` is running";
  }
  setText(failure, error);
  failure.title = error;
  return error === "";
}

// A command that a control has sent: the control keeps its value unless the command is refused.
export async function change(control, path, body, failure) {
  hold(control);
  const done = await post(path, body, failure);
  if (!done) release(control);
  return done;
}
