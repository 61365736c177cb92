// What the other files share: errors with names, and events.

export const bytesOf = (text) => new TextEncoder().encode(text).length;
export const named = (name, message, more) => Object.assign(new Error(message), { name }, more);

/** The connection ended before its `welcome`. */
export class SignallingConnectError extends Error {
  constructor(closeCode, closeReason) {
    super(`signalling connection closed before welcome (closeCode=${closeCode})`);
    Object.assign(this, { name: "SignallingConnectError", closeCode, closeReason });
  }
}

/** What was to be sent has more bytes than the server takes. */
export class OversizedPayloadError extends Error {
  constructor(size, cap) {
    super(`payload ${size} bytes exceeds server cap ${cap} bytes`);
    Object.assign(this, { name: "OversizedPayloadError", size, cap });
  }
}

/** Handlers by the name of an event. What a handler throws disturbs nobody else. */
export class Emitter {
  #handlers = new Map();

  on(event, handler) {
    this.#handlers.set(event, [...(this.#handlers.get(event) ?? []), handler]);
    return this;
  }

  off(event, handler) {
    const all = [...(this.#handlers.get(event) ?? [])];
    const at = all.findIndex((it) => it === handler || it.handler === handler);
    if (at >= 0) all.splice(at, 1);
    this.#handlers.set(event, all);
    return this;
  }

  once(event, handler) {
    const first = (payload) => {
      this.off(event, first);
      handler(payload);
    };
    return this.on(event, Object.assign(first, { handler }));
  }

  /** For the client itself. */
  emit(event, payload) {
    for (const handler of this.#handlers.get(event) ?? []) {
      try {
        handler(payload);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
}
