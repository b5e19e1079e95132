// What a page does about files it is made of: the gentlest thing that is sure to be right. Fetched when a first change
// comes; each way of doing it is fetched when it is first needed.

import type { Uses } from './uses.ts';

export interface Page extends Uses {
  /** URL of the event stream; the parts of the client and the remembered sources are below it. */
  readonly base: string;
  /** The page's own file, canonical, if the server said so. */
  readonly file: string | null;
  /** Name of the source the page was made of, if the server remembers that. */
  readonly source: string | null;
  readonly load: <Part>(name: string) => Promise<Part>;
}

export interface Change {
  readonly id: string;
  /** Canonical, as `Uses` has them. */
  readonly paths: readonly string[];
  /** Those that are not there any more. */
  readonly gone: readonly string[];
  /** Whether every stylesheet is to be shown anew, or everything. */
  readonly all: 'css' | 'reload' | undefined;
}

/** More files at once are shown by one reload. */
const MANY = 20;

type Assets = typeof import('./assets.ts');
let assets: Promise<Assets> | undefined;
/** The source that the live document shows. */
let shown: string | undefined;

/** Shows files in place. `false`: only a reload is sure to show them. */
export async function show(change: Change, page: Page): Promise<boolean> {
  if (new URL(page.base).origin === location.origin) return showInPlace(change, page);
  const { refresh } = await page.load<typeof import('./foreign.ts')>('foreign');
  // One that another imports has no address of its own to change.
  await refresh(
    change.paths.filter((path) => /\.css$/i.test(path)),
    page.pathOf,
  );
  const done = await showInPlace(change, page).catch(() => false);
  if (!done) await refresh(change.all ? undefined : change.paths, page.pathOf);
  return done;
}

async function showInPlace({ id, paths, gone, all }: Change, page: Page): Promise<boolean> {
  const used = [...new Set(paths)].filter(page.uses);
  // Where the page's own file is not known it may be any of its folder, and its images are there too.
  const own = used.filter((path) => page.file && page.isOwn(path));
  const styles = used.filter((path) => /\.css$/i.test(path) && !own.includes(path));
  // Our own script is in every page, and stands for templates: any page may be made of those.
  const every = page.pathOf(`${page.base}/client.js`);
  const others = used.filter((path) => path !== every && !own.includes(path) && !styles.includes(path));
  // What went away has to go from the page too, which only a reload is sure to do.
  if (all === 'reload' || used.length > MANY || used.some((path) => gone.includes(path))) return false;
  if (all || styles.length > 0) {
    const { swapStyles } = await page.load<typeof import('./css.ts')>('css');
    const isChanged = (path: string) => all === 'css' || paths.includes(path);
    const swapped = await swapStyles(isChanged, id, page.pathOf, styles.map(encode));
    if (!styles.every((path) => swapped.has(path))) return false;
  }
  if (others.length > 0 && !(await swapAssets(others, page))) return false;
  // Another file in the page's place (/x.html for /x) is another page.
  if (!own.every((path) => path === page.file)) return false;
  const isOwn = own.length > 0;
  if ((isOwn || used.includes(every)) && !(await merge(page, isOwn))) return false;
  // A sheet or a merged element may have brought an address back whose old bytes the browser still has.
  if (assets) await (await assets).swapAssets([]);
  return true;
}

function encode(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

async function swapAssets(paths: readonly string[], page: Page): Promise<boolean> {
  assets ??= page.load<Assets>('assets');
  return (await assets).swapAssets(paths.map(encode));
}

/** Brings an edit of the page's own source, or perhaps of a template it is made of, into the live document. */
async function merge({ base, source, load }: Page, isOwn: boolean): Promise<boolean> {
  if (!source || document.characterSet !== 'UTF-8' || document.contentType !== 'text/html') return false;
  const old = shown ?? (await read(`${base}/source/${source}`));
  if (!old) return false;
  const { readAgain } = isOwn ? { readAgain: read } : await load<typeof import('./template.ts')>('template');
  // Fetched by a script, a document comes as it is in its file, without our tag.
  const next = await readAgain(location.href, { base, old, load });
  if (typeof next !== 'string') return next === true;
  const { mergeHtml } = await load<typeof import('./html.ts')>('html');
  if (!mergeHtml(old, next)) return false;
  shown = next;
  return true;
}

async function read(url: string): Promise<string | undefined> {
  const response = await fetch(url, { headers: { Accept: 'text/html' }, cache: 'no-store' });
  return response.ok ? response.text() : undefined;
}
