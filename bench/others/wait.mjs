// Waiting, with an end far beyond what anything here takes.

export const DEADLINE_MS = 120_000;

/** `promise`, or an error that names `what` did not happen. */
export async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    const error = new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    timer = setTimeout(() => reject(error), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
