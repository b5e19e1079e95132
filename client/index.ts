// The script in every page: hears what changed on the disk and does the gentlest thing that shows it.

import type { Failure } from '../src/events.ts';
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

/** Stands for all stylesheets among the paths of some. */
const ALL = '*.css';
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

/** A reload that is to come, and the file that asks for it. */
interface Due {
  readonly id: string;
  readonly path: string;
}

/** Stylesheets that are to be swapped. */
interface Styles {
  readonly id: string;
  readonly paths: readonly string[];
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
  const { pathOf, uses } = watchUses(file && toPath(file));
  // Not since the navigation: a page may be slow to come, and hears of what came before all the same.
  const born = performance.now();
  let memory = remember();
  let due: Due | undefined;
  let styles: Styles | undefined;
  let timer: ReturnType<typeof setTimeout>;
  let late = false;
  let overlay: Promise<typeof import('./overlay.ts')> | undefined;

  // What most pages never need is fetched when they do.
  const load = <Part>(name: string): Promise<Part> => import(`${base}/${name}.js`);

  const receive = ({ type, data, id = '' }: StreamEvent) => {
    if (type === 'failure') return fail(JSON.parse(data));
    if (type !== 'css' && type !== 'reload') {
      return void dispatchEvent(new CustomEvent(`live-sse:${type}`, { detail: parse(data) }));
    }
    overlay?.then((it) => it.hideFailure());
    const paths: readonly string[] = JSON.parse(data).paths.map(toPath);
    if (type === 'css') {
      styles = { id, paths: [...(styles?.paths ?? []), ...(paths.length > 0 ? paths : [ALL])] };
    } else if (paths.length === 0 || paths.some(uses)) {
      due = { id, path: paths.find(uses) ?? '' };
    }
    clearTimeout(timer);
    timer = setTimeout(obey, document.hidden ? HIDDEN : 0);
  };

  const fail = (failure: Failure | null) => {
    if (window !== top) return; // it is over the whole page
    overlay ??= load('overlay');
    // Rejected if the server is gone again
    overlay.then((it) => (failure ? it.showFailure(failure) : it.hideFailure())).catch(() => {});
  };

  const obey = () => {
    const [present, sheets] = [due, styles];
    due = undefined;
    styles = undefined;
    if (present) void reload(present);
    else if (sheets) void swap(sheets);
  };

  const swap = async ({ id, paths }: Styles) => {
    const all = paths.includes(ALL);
    const missed = paths.filter(uses);
    if (!all && missed.length === 0) return;
    try {
      const { swapStyles } = await load<typeof import('./css.ts')>('css');
      const swapped = swapStyles((path) => all || paths.includes(path), id, pathOf);
      if (missed.every((path) => swapped.has(path))) return;
    } catch {} // a sheet that cannot be swapped, or nothing to swap it with
    void reload({ id, path: missed[0] ?? '' });
  };

  const reload = async ({ id, path }: Due) => {
    const young = performance.now() - born < YOUNG;
    const count = young ? (memory?.count ?? 0) + 1 : 0;
    if (young && memory?.late) {
      return console.warn(`live-sse: ${path} changes with each load: no more reloads`);
    }
    if (count > RELOADS) {
      // A burst of saves comes to rest, and is shown then. If that reload brings the next change, it is a loop.
      due = { id, path };
      late = true;
      timer = setTimeout(obey, REST);
      return;
    }
    memory = { id, count, late };
    try {
      const key = storageKey();
      sessionStorage[key] = JSON.stringify(memory);
      const { savePlace } = await load<typeof import('./restore.ts')>('restore');
      savePlace(key + PLACE);
    } catch {} // not allowed, or full: the reload matters more
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
    frame += `:${Array.prototype.indexOf.call(view.parent, view)}`;
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
