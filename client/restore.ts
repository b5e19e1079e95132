// A reload that keeps your place: what keep.ts has kept of the page before is put back. In every page, because it has to
// be there before the first frame is painted, which no script that is yet to be fetched can be sure of.

/** Milliseconds for which the page is put back in place while its layout grows. */
const LIMIT = 2000;

type Method = (...args: readonly unknown[]) => Promise<unknown> | undefined;
export type Call = readonly [method: string, ...args: unknown[]];
/** Where an element is, what it has, and what was done to it. */
export type State = readonly [path: string, properties: object, ...calls: Call[]];
/** What is put back once, and what again and again: states and scroll. */
export type Place = readonly [states: readonly State[], scroll: readonly State[]];

/**
 * Puts everything back while the page is built and laid out, until the user takes over.
 * @throws {Error} if nothing is kept, or that is not allowed here
 */
export function restorePlace(key: string): void {
  const [kept, scroll]: Place = JSON.parse(sessionStorage[key]);
  delete sessionStorage[key];
  const end = performance.now() + LIMIT;
  let states = kept;
  let over = false;

  const put = () => {
    if (over) return;
    states = states.filter(isMissing);
    scroll.filter(isMissing);
    if (performance.now() < end) requestAnimationFrame(put);
  };
  for (const type of ['keydown', 'pointerdown', 'wheel']) {
    addEventListener(type, () => (over = true), true);
  }
  // What the scripts of the page have set up since comes before what the user did.
  addEventListener('DOMContentLoaded', () => (states = kept));
  addEventListener('load', put);
  requestAnimationFrame(put); // at once would make Firefox paint before the stylesheets are there
}

/** Puts an element back, if it is there. */
function isMissing([path, properties, ...calls]: State): boolean {
  const element = document.querySelector(path);
  if (element) {
    try {
      const target = Object.assign(element, properties) as unknown as Record<string, Method>;
      for (const [method, ...args] of calls) target[method]?.(...args)?.catch(() => {}); // refused to a page nobody touched
    } catch {} // it is open already, or another element by now
  }
  return !element;
}
