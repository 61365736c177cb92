// Waiting for what has to happen, with a deadline far beyond what it ever takes.

const DEADLINE_MS = 30_000;

/** `promise`, or an error that names `what` did not happen. */
export async function within(what, promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    const late = new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    timer = setTimeout(() => reject(late), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** The next payload of `event` for which `matches` holds. */
export function next(emitter, event, matches = () => true) {
  const seen = new Promise((resolve) => {
    const handler = (payload) => {
      if (!matches(payload)) return;
      emitter.off(event, handler);
      resolve(payload);
    };
    emitter.on(event, handler);
  });
  return within(`event ${event}`, seen);
}

/** Resolves once `holds()` does; asked again after each of `events` of each of `emitters`. */
export async function until(what, emitters, events, holds) {
  const pairs = emitters.flatMap((emitter) => events.map((event) => [emitter, event]));
  let look;
  const seen = new Promise((resolve) => {
    look = () => holds() && resolve();
    for (const [emitter, event] of pairs) emitter.on(event, look);
    look();
  });
  try {
    await within(what, seen);
  } finally {
    for (const [emitter, event] of pairs) emitter.off(event, look);
  }
}

/** The payloads of `event` from now on, in the order in which they came. */
export function collect(emitter, event) {
  const payloads = [];
  emitter.on(event, (payload) => payloads.push(payload));
  return payloads;
}
