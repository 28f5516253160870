// The server: JSON requests, streams of events, errors with what to do about them, and a second try where the server asks for one.

export class ApiError extends Error {
  constructor(status, error = {}, retryAfter = null) {
    super(error.message || "Something went wrong.");
    Object.assign(this, { status, code: error.code || "unknown", expected: error.expected, todo: error.todo, retryAfter });
  }
}

const UNREACHABLE = { code: "unreachable", message: "The server cannot be reached.", todo: "See whether it still runs, then try again." };
const BROKEN = { code: "broken", message: "The connection broke before the reply was complete.", todo: "Try again." };

// crypto.randomUUID is missing on pages from another machine without TLS.
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(method, path, { body, key, signal, accept = "application/json", keepalive = false } = {}) {
  const headers = { Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["Idempotency-Key"] = key ?? newKey();
  let response;
  try {
    response = await fetch(path, { method, headers, signal, keepalive, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, UNREACHABLE);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  throw new ApiError(response.status, answer.error ?? { message: `The server answered ${response.status}.` }, Number.isFinite(wait) ? wait : null);
}

export async function api(method, path, body, options = {}) {
  const response = await request(method, path, { body, ...options });
  return response.status === 204 ? null : response.json();
}

// Yields {event, data} as they come; throws ApiError where the stream says so, or ends without "done".
export async function* events(path, body, { key, signal, waiting } = {}) {
  const response = await patient(() => request("POST", path, { body, key, signal, accept: "text/event-stream" }), signal, waiting);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new ApiError(0, BROKEN);
      });
      if (done) throw new ApiError(0, BROKEN);
      buffer = (buffer + value).replaceAll("\r\n", "\n");
      let end;
      while ((end = buffer.indexOf("\n\n")) >= 0) {
        const event = parse(buffer.slice(0, end));
        buffer = buffer.slice(end + 2);
        if (!event) continue;
        if (event.event === "error") throw new ApiError(200, event.data.error);
        yield event;
        if (event.event === "done") return drain(reader);
      }
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error;
  }
}

// To the true end, so that the server does not take a reader who has everything for one who left.
async function drain(reader) {
  try {
    while (!(await reader.read()).done);
  } catch { /* nothing more was to come */ }
}

function parse(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}

const TRIES = 5;

// A server that is full (429, 503) is asked again after the time that it names; `waiting(seconds)` hears of it.
async function patient(attempt, signal, waiting = () => {}) {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      if (![429, 503].includes(error.status) || tried === TRIES || !(error.retryAfter <= 60)) throw error;
      const seconds = Math.max(1, Math.ceil(error.retryAfter ?? 1));
      waiting(seconds);
      await pause(seconds, signal);
      waiting(0);
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
