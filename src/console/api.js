// The admin API: a session of two halves, questions that repeat while somebody looks, a stream.
//
// The cookie is one half of a session and goes by itself; the other is kept here and sent as a
// header, which no page of another origin can do. A hidden tab asks nothing.

const BASE = "/api/internal/v1/";
const KEPT = "ringmesh-session";
const HEADER = "X-Ringmesh-Session";
const TIME_MAX_MS = 12_000;
const RETRY_MS_MAX = 10_000;

/** What a server said instead of an answer; `status` is 0 where there was no server. */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

const aborted = (error) => error?.name === "AbortError";

function stored() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

function store(half) {
  try {
    if (half) localStorage.setItem(KEPT, half);
    else localStorage.removeItem(KEPT);
  } catch {
    // Without storage the session lasts as long as the page.
  }
}

/** Path and query; values that are null or empty are left out. */
export function pathOf(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  // A plus sign is itself in a query of the admin API, and a space is not one.
  const text = query.toString().replaceAll("+", "%20");
  return text ? `${path}?${text}` : path;
}

/** Events: "signed-out", "down" and "up" (whether the server answers). */
export class Api extends EventTarget {
  #half = stored();
  /** When the server last answered, while it does not; else null. */
  downSince = null;
  #answered = new Date();
  role = null;

  get hasSession() {
    return this.#half !== null;
  }

  /** Signs in with `{token}` or `{code}`. */
  async signIn(credential) {
    const answer = await this.request("POST", "session", { body: credential });
    this.#half = answer.half;
    this.role = answer.role ?? null;
    store(answer.half);
  }

  async signOut(everywhere = false) {
    try {
      await this.request("DELETE", pathOf("session", { all: everywhere ? "true" : null }));
    } finally {
      this.forget();
    }
  }

  forget() {
    this.#half = null;
    store(null);
    this.dispatchEvent(new Event("signed-out"));
  }

  get(path, params, options) {
    return this.request("GET", pathOf(path, params), options);
  }

  async request(method, path, { body, signal, headers } = {}) {
    const limit = AbortSignal.timeout(TIME_MAX_MS);
    const response = await this.#fetch(method, path, {
      body,
      headers,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    if (response.status === 204) return null;
    try {
      return await response.json();
    } catch (error) {
      if (aborted(error)) throw error;
      throw new ApiError(response.status, "bad_answer", "the answer is no JSON");
    }
  }

  async #fetch(method, path, { body, headers, signal }) {
    const sent = { Accept: "application/json", ...headers };
    if (this.#half) sent[HEADER] = this.#half;
    if (body !== undefined) sent["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(BASE + path, {
        method,
        headers: sent,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "same-origin",
      });
    } catch (error) {
      if (aborted(error)) throw error;
      this.#down();
      const late = error?.name === "TimeoutError";
      throw new ApiError(0, "no_answer", late ? "the server is too slow" : "no server answers");
    }
    this.#up();
    if (response.ok) return response;
    throw await this.#failure(response, path);
  }

  async #failure(response, path) {
    const told = await response.json().catch(() => ({}));
    if (response.status === 401 && path !== "session" && this.#half) this.forget();
    const retryAfter = Number(response.headers.get("Retry-After")) || null;
    const text = told.message ?? `the server answered ${response.status}`;
    return new ApiError(response.status, told.error ?? "failed", text, retryAfter);
  }

  #down() {
    if (this.downSince) return;
    this.downSince = this.#answered;
    this.dispatchEvent(new Event("down"));
  }

  #up() {
    this.#answered = new Date();
    if (!this.downSince) return;
    this.downSince = null;
    this.dispatchEvent(new Event("up"));
  }

  /**
   * Asks now and then `everyMs` after each answer, while the tab is seen and `signal` holds.
   * `then(answer)` and `failed(error)` take what comes. What was refused as wrong, 400, is not
   * asked again by itself. Returns a function that asks at once.
   */
  poll(signal, everyMs, ask, then, failed = () => {}) {
    let timer = 0;
    let running = false;
    let faults = 0;
    let isWrong = false;
    const next = (ms) => {
      clearTimeout(timer);
      if (!signal.aborted && !document.hidden && !isWrong) timer = setTimeout(run, ms);
    };
    const run = async () => {
      clearTimeout(timer);
      if (running || signal.aborted || document.hidden) return;
      running = true;
      isWrong = false;
      let pause = everyMs;
      try {
        const answer = await ask(signal);
        faults = 0;
        if (!signal.aborted) then(answer);
      } catch (error) {
        if (signal.aborted) return;
        faults += 1;
        isWrong = error.status === 400;
        failed(error);
        pause = Math.min(RETRY_MS_MAX, Math.max(1_000, everyMs) * 1.5 ** faults);
        pause = error.retryAfter ? error.retryAfter * 1_000 : pause;
      } finally {
        running = false;
      }
      next(pause);
    };
    document.addEventListener("visibilitychange", () => next(0), { signal });
    this.addEventListener("up", () => faults > 0 && next(0), { signal });
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    run();
    return run;
  }

  /**
   * Follows server-sent events while the tab is seen. `take(kind, data)` gets each, `state` gets
   * "open" or an error. Goes on from where it was when the server or the tab comes back, but not
   * where the server has refused the question as wrong, 400.
   */
  follow(signal, path, take, state) {
    let last = null;
    let faults = 0;
    let current = null;
    let isWrong = false;
    const run = async () => {
      if (signal.aborted || document.hidden || current || isWrong) return;
      const own = new AbortController();
      current = own;
      const both = AbortSignal.any([signal, own.signal]);
      let pause = 1_000;
      try {
        const headers = { Accept: "text/event-stream" };
        if (last) headers["Last-Event-ID"] = last;
        const response = await this.#fetch("GET", path, { headers, signal: both });
        faults = 0;
        state("open");
        last = (await readEvents(response.body, take, (id) => (last = id))) ?? last;
        pause = 250;
      } catch (error) {
        if (both.aborted) return;
        faults += 1;
        isWrong = error.status === 400;
        state(error instanceof ApiError ? error : new ApiError(0, "no_answer", "the stream broke"));
        if (!(error instanceof ApiError)) this.#down();
        pause = error.retryAfter ? error.retryAfter * 1_000
          : Math.min(RETRY_MS_MAX, 1_000 * 1.5 ** faults);
      } finally {
        if (current === own) current = null;
      }
      const timer = setTimeout(run, pause);
      signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    };
    const seen = () => {
      if (document.hidden) {
        current?.abort();
        current = null;
      } else {
        run();
      }
    };
    document.addEventListener("visibilitychange", seen, { signal });
    this.addEventListener("up", run, { signal });
    run();
  }
}

/** Reads a stream of server-sent events to its end. */
async function readEvents(body, take, seenId) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return last;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const event = { event: "message", data: [], id: null };
      for (const line of part.split("\n")) {
        const colon = line.indexOf(":");
        if (colon <= 0) continue;
        const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
        if (name === "data") event.data.push(value);
        else event[name] = value;
      }
      if (event.data.length > 0) take(event.event, JSON.parse(event.data.join("\n")));
      if (event.id) {
        last = event.id;
        seenId(last);
      }
    }
  }
}
