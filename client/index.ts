// The script in every page: hears what changed on the disk and does the gentlest thing that shows it.

import type { Failure, PageEvent } from '../src/events.ts';
import { isLater, join, type StreamEvent } from './stream.ts';
import { pathIn, watchUses } from './uses.ts';

/** The name of the worker that goes with this script; the build puts a hash of the worker there. */
declare const WORKER: string;

/** So many pages in a row may be reloaded before they are `YOUNG` ms old. */
const RELOADS = 3;
const YOUNG = 1000;
/** Milliseconds until the page is reloaded all the same, if there was quiet. */
const REST = 2000;
/** Milliseconds of quiet after which a page that nobody sees takes what has come in. */
const HIDDEN = 1000;

/** What is added to the key under which the page's place is kept. */
const PLACE = ':place';

/** What a reload leaves for the page that comes next. */
interface Memory {
  /** Id of the event that was obeyed. */
  readonly id: string;
  /** How many young pages in a row were reloaded. */
  readonly count: number;
  /** That reload came after a burst of them had ended. */
  readonly late: boolean;
  readonly place?: boolean;
}

/** What is to be shown: the changed files, those of the page among them, or everything. */
interface Due {
  readonly id: string;
  readonly paths: readonly string[];
  readonly gone: readonly string[];
  /** Whether every stylesheet is to be shown anew, or everything. */
  readonly all: PageEvent['type'] | undefined;
}

const script = document.currentScript;
const twice = Symbol.for('live-sse');
if (script && !(twice in window)) {
  Object.assign(window, { [twice]: true });
  run(script);
}

function run(script: HTMLOrSVGScriptElement): void {
  const written = script.getAttribute('src') ?? script.getAttribute('href') ?? '';
  // Against the address the page came with: its scripts may have changed the present one, or set a base.
  const [navigation] = performance.getEntriesByType('navigation');
  const url = new URL(written, navigation?.name || location.href);
  const base = url.href.replace(/\/client\.js.*$/, '');
  // The tag is relative, and names the path below the root of the server; what is before that a proxy has added.
  const prefix = /^\.\.?\//.test(written)
    ? url.pathname.slice(0, -written.replace(/^(\.\.?\/)+/, '/').length)
    : '';
  const toPath = (path: string) => pathIn(prefix + path, url.href);
  const file = script.getAttribute('data-file');
  const own = file && toPath(file);
  const page = {
    ...watchUses(own, `${base}/worker.js`),
    base,
    file: own,
    source: script.getAttribute('data-source'),
    // What most pages never need is fetched when they do.
    load: <Part>(name: string): Promise<Part> => import(`${base}/${name}.js`),
  };
  const { load, uses } = page;
  // Not since the navigation: a page may be slow to come, and hears of what came before all the same.
  const born = performance.now();
  let memory = remember();
  let due: Due | undefined;
  let timer: ReturnType<typeof setTimeout>;
  let late = false;
  let heard = '';
  let turn = Promise.resolve();
  let overlay: Promise<typeof import('./overlay.ts')> | undefined;

  const receive = ({ type, data, id = '' }: StreamEvent) => {
    if (type === 'failure') return fail(JSON.parse(data));
    if (type !== 'css' && type !== 'reload') {
      return void dispatchEvent(new CustomEvent(`live-sse:${type}`, { detail: parse(data) }));
    }
    heard = id;
    if (overlay) fail(null);
    const told: Pick<PageEvent, 'paths' | 'gone'> = JSON.parse(data);
    const paths = told.paths.map(toPath);
    const all = paths.length === 0;
    if (!all && !paths.some(uses)) return;
    due = {
      id,
      paths: [...(due?.paths ?? []), ...paths],
      gone: [...(due?.gone ?? []), ...(told.gone ?? []).map(toPath)],
      all: all && due?.all !== 'reload' ? type : due?.all,
    };
    clearTimeout(timer);
    timer = setTimeout(obey, document.hidden ? HIDDEN : 0);
  };

  const fail = (failure: Failure | null) => {
    if (window !== top) return; // it is over the whole page
    overlay ??= load('overlay');
    overlay
      .then((it) => (failure ? it.showFailure(failure) : it.hideFailure()))
      .catch(() => (overlay = undefined)); // the server is gone again
  };

  // One after the other: each starts from what the one before has made.
  const obey = () => {
    turn = turn.then(show);
  };

  const show = async () => {
    const change = due;
    due = undefined;
    if (!change) return;
    try {
      const it = await load<typeof import('./change.ts')>('change');
      if (await it.show(change, page)) return;
    } catch {} // it cannot be shown in place, or there is nothing to do it with
    await reload(change);
  };

  const wait = (change: Due) => {
    due ??= change;
    timer = setTimeout(obey, REST);
  };

  const reload = async (change: Due) => {
    const path = change.paths.find(uses) ?? '';
    const young = performance.now() - born < YOUNG;
    const count = young ? (memory?.count ?? 0) + 1 : 0;
    if (young && memory?.late) return console.warn(`live-sse: ${path} changes with each load`);
    if (count > RELOADS) {
      // A burst of saves comes to rest, and is shown then. If that reload brings the next change, it is a loop.
      late = true;
      return wait(change);
    }
    const key = storageKey();
    try {
      // Who leaves for a server that is gone has no page to come back to. A policy may forbid one way of asking.
      await fetch(url.href).catch(() => load('client'));
    } catch {
      return wait(change);
    }
    try {
      const { savePlace } = await load<typeof import('./restore.ts')>('restore');
      savePlace(key + PLACE);
    } catch {} // not allowed, or full: the reload matters more
    // The reload shows all that was heard of until now.
    memory = { id: heard, count, late };
    try {
      sessionStorage[key] = JSON.stringify(memory);
    } catch {} // not allowed here
    location.reload();
  };

  document.addEventListener('visibilitychange', () => document.hidden || obey());
  if (memory?.place) {
    void load<typeof import('./restore.ts')>('restore').then((it) => it.restorePlace(storageKey() + PLACE));
  }
  const stamp = script.getAttribute('data-id') ?? '';
  // A page from some cache has an old stamp, again and again: what was obeyed before is not obeyed anew.
  join(base, memory && isLater(memory.id, stamp) ? memory.id : stamp, WORKER, receive);
}

function remember(): Memory | undefined {
  try {
    const key = storageKey();
    return { ...JSON.parse(sessionStorage[key]), place: key + PLACE in sessionStorage };
  } catch {} // nothing is kept, or that is not allowed here
}

/** Names the frame too: several may show the same page. */
function storageKey(): string {
  let frame = '';
  for (let view: Window = window; view !== view.parent; view = view.parent) {
    frame += `:${[].indexOf.call(view.parent as never, view as never)}`;
  }
  return `live-sse${frame}:${location.pathname}${location.search}`;
}

function parse(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}
