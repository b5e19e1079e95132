// What a page does about files it is made of: the gentlest thing that is sure to be right, after the page was asked. Fetched
// when a first change comes.

import type { Texts } from '../src/events.ts';
import { isSwappable } from './assets.ts';
import { showBar } from './bar.ts';
import { swapStyles } from './css.ts';
import type { Action, PageChange } from './events.d.ts';
import { mergeHtml, parse } from './html.ts';
import { isDead, isMoved } from './template.ts';
import type { Uses } from './uses.ts';

export interface Page extends Uses {
  /** URL of the event stream; the parts of the client and the remembered sources are below it. */
  readonly base: string;
  /** The canonical form of a path in an event. */
  toPath(path: string): string;
  /** The page's own file, canonical, if the server said so. */
  readonly file: string | undefined;
  /** Name of the source the page was made of, if the server remembers that. */
  readonly source: string | undefined;
  /** Names of what is not to be done in place. */
  readonly plain: string | undefined;
  /** performance.now() of the script's start. */
  readonly born: number;
  /** Id of the last event. */
  readonly heard: string;
  /** What the reload before has left. */
  readonly memory: Memory | undefined;
  /** Where the page keeps that. */
  readonly key: () => string;
  readonly load: <Part>(name: string) => Promise<Part>;
}

/** What a reload leaves for the page that comes next. */
export interface Memory {
  /** Id of the event that was obeyed. */
  readonly id: string;
  /** How many young pages in a row were reloaded. */
  readonly count: number;
  /** That reload came after a burst of them had ended. */
  readonly late: boolean;
}

/** What is to be shown: the changed files, those of the page among them, or everything. */
export interface Change {
  readonly id: string;
  /** Canonical, as `Uses` has them. */
  readonly paths: readonly string[];
  /** Those that are not there any more, as the event has them. */
  readonly gone?: readonly string[] | undefined;
  /** What some of the files are now, by the paths that the event has. */
  readonly texts?: Texts | undefined;
  /** Whether every stylesheet is to be shown anew, or everything. */
  readonly all?: 'css' | 'reload' | false | undefined;
}

/** What files are now, by their canonical paths. */
export type KnownTexts = Readonly<Record<string, string | undefined>>;

interface Source {
  readonly text: string;
  readonly doc?: Document;
}

/** More files at once are shown by one reload. */
const MANY = 20;
/** So many pages in a row may be reloaded before they are `YOUNG` ms old. */
const RELOADS = 3;
const YOUNG = 1000;

/** How images, fonts and media are swapped, once some were. */
let assets: Promise<typeof import('./assets.ts')> | undefined;
/** The source that the live document shows, and what that makes, if it is known. */
let shown: Promise<Source | undefined> | undefined;
/** A burst of changes is waited for. */
let late = false;

/** Shows files, by a reload if need be. `false`: that cannot be done now. Without a change it makes ready for the first. */
export async function show(change: Change | undefined, page: Page): Promise<boolean> {
  if (!change) {
    readSource(page);
    return true;
  }
  const used = [...new Set(change.paths)].filter(page.uses);
  try {
    const foreign = isForeign(page) ? await page.load<typeof import('./foreign.ts')>('foreign') : undefined;
    // One that another imports has no address of its own to change.
    const isFresh = (await foreign?.refresh(change.paths.filter(isStyle), page.pathOf)) ?? true;
    if (isFresh && (await showInPlace(change, textsOf(change, page), used, page))) return true;
    await foreign?.refresh(change.all ? undefined : change.paths, page.pathOf);
  } catch {} // it cannot be shown in place
  return reload(used, page);
}

/** Does another server send the page? */
const isForeign = ({ base }: Page) => new URL(base).origin !== location.origin;

function textsOf({ texts }: Change, { toPath }: Page): KnownTexts {
  const known: Record<string, string> = {};
  // What a worker of the page answers with may be something else.
  if (!navigator.serviceWorker?.controller) for (const path in texts) known[toPath(path)] = texts[path] ?? '';
  return known;
}

async function showInPlace(
  { id, paths, gone, all }: Change,
  texts: KnownTexts,
  used: readonly string[],
  page: Page,
): Promise<boolean> {
  // Where the page's own file is not known it may be any of its folder, and its images are there too.
  const own = used.filter((path) => page.file && page.isOwn(path));
  const styles = used.filter((path) => isStyle(path) && !own.includes(path));
  // Our own script is in every page, and stands for templates: any page may be made of those.
  const every = page.pathOf(`${page.base}/client.js`);
  const others = used.filter((path) => path !== every && !own.includes(path) && !styles.includes(path));
  const isOwn = own.length > 0;
  const actions: Action[] = [];
  if (all || styles.length > 0) actions.push('css');
  if (others.length > 0) actions.push('assets');
  if (isOwn || used.includes(every)) actions.push('html');
  // What went away has to go from the page too, which only a reload is sure to do.
  if (
    all === 'reload' ||
    used.length > MANY ||
    !others.every(isSwappable) ||
    used.some((path) => gone?.map(page.toPath).includes(path))
  )
    return false;
  if (actions.some((action) => page.plain?.includes(action))) return false;
  if (!isLeftToUs(actions, used)) return true;
  if (actions[0] === 'css') {
    const isChanged = (path: string) => all === 'css' || paths.includes(path);
    const swapped = await swapStyles(isChanged, id, page, { urls: styles.map(encode), texts });
    if (!styles.every((path) => swapped.has(path))) return false;
  }
  if (others.length > 0) {
    assets ??= page.load('assets');
    if (!(await (await assets).swapAssets(others))) return false;
  }
  // Another file in the page's place (/x.html for /x) is another page.
  if (!own.every((path) => path === page.file)) return false;
  if (actions.includes('html') && !(await merge(page, isOwn, texts))) return false;
  // A sheet or a merged element may have brought an address back whose old bytes the browser still has.
  await (await assets)?.swapAssets([]);
  showBar('');
  return true;
}

function isStyle(path: string): boolean {
  return /\.css$/i.test(path);
}

/** Asks the page, which may want to see to it itself. */
function isLeftToUs(actions: readonly Action[], paths: readonly string[]): boolean {
  const detail: PageChange = { actions, paths: paths.map(encode) };
  return dispatchEvent(new CustomEvent('live-sse:change', { detail, cancelable: true }));
}

function encode(path: string): string {
  return path.replace(/[^/]+/g, encodeURIComponent);
}

/** Brings an edit of the page's own source, or perhaps of a template it is made of, into the live document. */
async function merge(page: Page, isOwn: boolean, texts: KnownTexts): Promise<boolean> {
  const { base, file, source, load } = page;
  if (!source || document.characterSet !== 'UTF-8' || document.contentType !== 'text/html') return false;
  const known = isMoved() ? undefined : texts[file ?? ''];
  // Fetched by a script, a document comes as it is in its file, without our tag.
  const [own, old] = await Promise.all([isOwn ? (known ?? read(location.href)) : '', readSource(page)]);
  if (!old) return false;
  const next = isOwn
    ? own
    : await (await load<typeof import('./template.ts')>('template')).readAgain(location.href, {
        base,
        old: old.text,
        load,
      });
  if (typeof next !== 'string') return next === true;
  if (!next || !mergeHtml(old.doc ?? old.text, next)) return false;
  shown = Promise.resolve({ text: next });
  return true;
}

/** What the server remembers of it, once. */
function readSource({ base, source }: Page): typeof shown {
  const reading = async () => {
    try {
      const text = await read(`${base}/source/${source}`);
      return text ? { text, doc: parse(text) } : undefined;
    } catch {
      shown = undefined; // the server is away: another time
    }
  };
  if (source) shown ??= reading();
  return shown;
}

async function read(url: string): Promise<string | undefined> {
  const response = await fetch(url, HTML);
  return response.ok ? response.text() : undefined;
}

const HTML: RequestInit = { headers: { Accept: 'text/html' }, cache: 'no-store' };

/** Leaves for the page that comes next, with the place kept, if there is one to come to. */
async function reload(used: readonly string[], page: Page): Promise<boolean> {
  // A page that nobody sees takes in what has come a while later.
  const young = performance.now() - page.born < (document.hidden ? 3 : 1) * YOUNG;
  const count = young ? (page.memory?.count ?? 0) + 1 : 0;
  if (young && page.memory?.late) {
    console.warn(`live-sse: ${used} changes with each load`);
    return !document.hidden; // it is shown to who comes back to it, if it is not young then
  }
  if (count > RELOADS) {
    // A burst of saves comes to rest, and is shown then. If that reload brings the next change, it is a loop.
    late = true;
    return false;
  }
  const [problem, place] = await Promise.all([problemWith(page), placeOf(page)]);
  showBar(problem);
  if (problem) return false;
  if (!isLeftToUs(['reload'], used)) return true;
  const key = page.key();
  try {
    // The reload shows all that was heard of until now.
    sessionStorage[key] = JSON.stringify({ id: page.heard, count, late } satisfies Memory);
    place?.savePlace(`${key}:place${page.plain}`);
  } catch {} // not allowed, or full: the reload matters more
  // Firefox keeps stylesheets past any cache, and fonts past a reload, unless it is told; the others know no argument.
  (location as { reload(anew: boolean): void }).reload(isForeign(page) || used.some(isSwappable));
  return true;
}

/** What keeps the place, if it is to be kept. */
async function placeOf({ plain, load }: Page): Promise<typeof import('./keep.ts') | undefined> {
  return plain?.includes('place')
    ? undefined
    : load<typeof import('./keep.ts')>('keep').catch(() => undefined);
}

/** What is wrong with the page that would come: who leaves for it has no way back. Nothing is ''. */
async function problemWith({ base, source }: Page): Promise<string> {
  const script = `${base}/client.js?${Date.now()}`;
  try {
    // Where the server keeps no source, the page may be the answer to a form: it is not asked for a second time.
    const response = await fetch(source ? location.href : script, HTML);
    const { status } = response;
    // Those above are no answers of the page, but of who waits for it.
    if (status > 501 || (status > 499 && isDead(response))) return `was answered with ${status}`;
    return (await response.text()).trim() ? '' : 'is empty';
  } catch {
    // A policy may forbid this way of asking.
    return import(script).then(
      () => '',
      () => 'does not come',
    );
  }
}
