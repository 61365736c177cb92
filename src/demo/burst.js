// A thousand messages into a room, and what became of them: how many came, and in which order.

const MESSAGES = 1_000;
/** Below the message rate of a connection, 100 a second, with room for everything else. */
const AT_ONCE = 8;
const EVERY_MS = 100;
/** Bursts of others that are counted at the same time. */
const COUNTED_MAX = 50;

/** Sends a burst: `publish(data)` sends one, `progress(sent)` hears of it. Ends early on false. */
export function sendMany(publish, progress) {
  const burst = crypto.getRandomValues(new Uint32Array(2)).join("-");
  return new Promise((resolve) => {
    let number = 0;
    const timer = setInterval(() => {
      for (let one = 0; one < AT_ONCE && number < MESSAGES; one += 1) {
        number += 1;
        if (!publish({ kind: "burst", burst, number, of: MESSAGES })) number = Infinity;
      }
      progress(Math.min(number, MESSAGES));
      if (number < MESSAGES) return;
      clearInterval(timer);
      resolve(number === MESSAGES);
    }, EVERY_MS);
  });
}

const isCount = (value) => Number.isInteger(value) && value >= 1 && value <= MESSAGES;

/** Counts the bursts of others. */
export class Bursts {
  #counted = new Map();

  /** Takes one message; returns what is to be told when it was the last, else null. */
  take(from, { burst, number, of }) {
    if (typeof burst !== "string" || !isCount(number) || !isCount(of)) return null;
    const key = `${from} ${burst}`;
    const counted = this.#counted.get(key) ?? { came: 0, last: 0, ordered: true, from: Date.now() };
    this.#counted.set(key, counted);
    counted.came += 1;
    counted.ordered &&= number > counted.last;
    counted.last = number;
    if (this.#counted.size > COUNTED_MAX) this.#counted.delete(this.#counted.keys().next().value);
    if (number < of) return null;
    this.#counted.delete(key);
    const seconds = ((Date.now() - counted.from) / 1_000).toFixed(1);
    const order = counted.ordered ? "in order" : "not in order";
    return `${counted.came} of ${of} messages came, ${order}, in ${seconds} s`;
  }
}
