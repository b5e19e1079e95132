// The script in every page: hears what changed on the disk and does the gentlest thing that shows it.

import type { Failure, PageEvent, Texts } from '../src/events.ts';
import type { Change, Memory } from './change.ts';
import { restorePlace } from './restore.ts';
import { isLater, join, type StreamEvent } from './stream.ts';
import { pathIn, TWICE, watchUses } from './uses.ts';

/** The name of the worker that goes with this script; the build puts a hash of the worker there. */
declare const WORKER: string;

/** Milliseconds until what could not be shown is tried again. */
const REST = 2000;
/** Milliseconds of quiet after which a page that nobody sees takes what has come in. */
const HIDDEN = 1000;
/** What a page asks for within so many milliseconds belongs to its load. */
const EARLY = 5000;

const script = document.currentScript;
if (script && !(TWICE in window)) {
  (window as unknown as Record<symbol, true>)[TWICE] = true;
  run(script);
}

function run(script: HTMLOrSVGScriptElement): void {
  const written = script.getAttribute('src') ?? script.getAttribute('href') ?? '';
  // Against the address the page came with: its scripts may have changed the present one, or set a base.
  const url = new URL(written, performance.getEntriesByType('navigation')[0]?.name || location.href);
  const base = url.href.replace(/\/client\.js.*/, '');
  // The tag is relative, and names the path below the root of the server; what is before that a proxy has added.
  const prefix = url.pathname.slice(0, -written.replace(/^(\.\.?\/)*\/?/, '/').length);
  const toPath = (path: string) => pathIn(prefix + path, url.href);
  const { id: stamp = '', file, source, plain } = script.dataset;
  const own = file && toPath(file);
  let misses = 0;
  const page = {
    ...watchUses(own, `${base}/worker.js`, (path, start) => {
      // The page is young until it has come, or one whose load changes what it waits for would be reloaded for ever.
      if (start < EARLY) page.born = performance.now();
      take({ id: page.heard, paths: [path] });
    }),
    base,
    toPath,
    file: own,
    source,
    plain,
    // Not since the navigation: a page may be slow to come, and hears of what came before all the same.
    born: performance.now(),
    key: storageKey,
    memory: remember(plain),
    heard: '',
    // What most pages never need is fetched when they do. A browser may remember that it could not be.
    load: <Part>(name: string): Promise<Part> =>
      import(`${base}/${name}.js?${misses}`).catch((error) => {
        misses++;
        throw error;
      }),
  };
  const { load, uses, memory } = page;
  let due: Change | undefined;
  let timer: ReturnType<typeof setTimeout>;
  let turn = Promise.resolve();
  let overlay: Promise<typeof import('./overlay.ts')> | undefined;

  const receive = ({ type, data, id }: StreamEvent) => {
    if (type === 'failure') return fail(parse(data) as Failure);
    if (type !== 'css' && type !== 'reload') {
      return void dispatchEvent(new CustomEvent(`live-sse:${type}`, { detail: parse(data) }));
    }
    page.heard = id;
    if (overlay) fail(null);
    const told = parse(data) as Pick<PageEvent, 'paths' | 'gone'> & { texts?: Texts };
    const paths = told.paths.map(toPath);
    const all = !paths[0];
    if (all || paths.some(uses)) take({ ...told, id, paths, all: all && type });
  };

  /** For the next turn, which comes in so many milliseconds; 0: not by itself. */
  const keep = (change: Change, ms: number) => {
    due = due
      ? {
          id: page.heard,
          paths: [...due.paths, ...change.paths],
          gone: [...(due.gone ?? []), ...(change.gone ?? [])],
          all: (due.all !== 'reload' && change.all) || due.all,
        }
      : change;
    clearTimeout(timer);
    if (ms) timer = setTimeout(obey, ms);
  };

  const take = (change: Change) => {
    keep(change, document.hidden ? HIDDEN : 0);
    document.hidden || obey();
  };

  const fail = (failure: Failure | null) => {
    if (window !== top || plain?.includes('overlay')) return; // it is over the whole page
    overlay ??= load('overlay');
    overlay.then((it) => it.showFailure(failure)).catch(() => (overlay = undefined)); // the server is gone again
  };

  // One after the other: each starts from what the one before has made.
  const obey = () => {
    turn = turn.then(show);
  };

  const show = async () => {
    const change = due;
    due = undefined;
    try {
      const it = await load<typeof import('./change.ts')>('change');
      if (await it.show(change, page)) return;
    } catch {
      // The server is away, or a policy lets no part of ours in. If that lasts, only a plain reload is left.
      if (change && misses !== 1 && (await fetch(location.href).catch(() => undefined))) location.reload();
    }
    // Nobody waits for it in a page that is not seen, and one whose load changes its own file would never come to rest.
    if (change) keep(change, document.hidden ? 0 : REST);
  };

  document.addEventListener('visibilitychange', () => document.hidden || obey());
  // Whoever goes to an editor saves soon, and so does who was there for the last reload: that save finds all that it needs.
  const prepare = () => due || obey();
  addEventListener('blur', prepare);
  if (memory) addEventListener('load', prepare);
  // A page from some cache has an old stamp, again and again: what was obeyed before is not obeyed anew.
  join(base, memory && isLater(memory.id, stamp) ? memory.id : stamp, WORKER, receive);
}

/** What a reload has left for this page; the place in it is taken up. What is sent instead of the page has its own. */
function remember(plain: string | undefined): Memory | undefined {
  let memory: Memory | undefined;
  try {
    const key = storageKey();
    memory = JSON.parse(sessionStorage[key]);
    restorePlace(`${key}:place${plain}`);
  } catch {} // nothing is kept, or that is not allowed here
  return memory;
}

/** Names the frame too: several may show the same page. */
function storageKey(): string {
  let name = 'live-sse';
  for (let view: Window = window; view !== view.parent; view = view.parent) {
    name += `:${[].indexOf.call(view.parent as never, view as never)}`;
  }
  return `${name}:${location.pathname}${location.search}`;
}

function parse(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}
