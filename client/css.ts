// Stylesheets swapped in place, wherever in the page they live, without one frame in between that is unstyled.

import { swapAdopted } from './adopted.ts';

/** Milliseconds after which a stylesheet that does not come is given up. */
const LIMIT = 10_000;

type SheetNode = HTMLLinkElement | HTMLStyleElement;

/** How far the swap of one node is. */
interface Swap {
  /** The token to swap to when the present swap is done; the newest wins. */
  next?: string;
  /** What stands in for a node that failed to load after its stand-in had. */
  cover?: Element;
  running: boolean;
}

const swaps = new WeakMap<SheetNode, Swap>();

/** The URL with the token of a change as the last part of its query, in place of the one of an earlier change. */
export function withToken(url: string, token: string): string {
  const [, path = '', hash = ''] = /^([^#]*)(.*)$/s.exec(url) ?? [];
  const bare = path.replace(/[?&]live-sse=[^&]*$/, '');
  return `${bare}${bare.includes('?') ? '&' : '?'}live-sse=${token}${hash}`;
}

/**
 * Fetches again all stylesheets of the page that are, or import, a file for which `isChanged` holds.
 * @param urls of the changed stylesheets, for those that scripts have adopted
 * @param token new with each change: what is fetched for it is never taken for an older version
 * @returns the paths that were found where they can be swapped
 */
export async function swapStyles(
  isChanged: (path: string) => boolean,
  token: string,
  pathOf: (url: string) => string,
  urls: readonly string[],
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  const changedOf = (urls: Iterable<string>) => {
    const paths = [...urls].map(pathOf).filter(isChanged);
    for (const path of paths) found.add(path);
    return paths.length > 0;
  };
  const adopted = new Set<CSSStyleSheet>();
  for (const root of rootsOf(document)) {
    for (const sheet of root.adoptedStyleSheets) adopted.add(sheet);
    for (const node of root.querySelectorAll<SheetNode>('link[rel~=stylesheet i][href],style')) {
      const urls = isLink(node) ? [node.href, ...importsOf(node.sheet, node.href)] : importsOf(node.sheet);
      if (changedOf(urls)) swap(node, token);
    }
  }
  if (adopted.size > 0) {
    for (const url of urls) if (await swapAdopted(withToken(url, 'all'), adopted)) found.add(pathOf(url));
  }
  return found;
}

function isLink(node: SheetNode): node is HTMLLinkElement {
  return 'href' in node;
}

/** The document and all open shadow roots in it. */
function* rootsOf(root: Document | ShadowRoot): Generator<Document | ShadowRoot> {
  yield root;
  for (const { shadowRoot } of root.querySelectorAll('*')) if (shadowRoot) yield* rootsOf(shadowRoot);
}

function importRules(sheet: CSSStyleSheet | null): CSSImportRule[] {
  try {
    return [...(sheet?.cssRules ?? [])].filter((rule) => rule instanceof CSSImportRule);
  } catch {
    return []; // of another origin: nothing of ours is in it
  }
}

/** The URLs a sheet imports, through any depth. */
function importsOf(sheet: CSSStyleSheet | null, base = document.baseURI): string[] {
  return importRules(sheet).flatMap((rule) => {
    const url = new URL(rule.href, base).href;
    return [url, ...importsOf(rule.styleSheet, url)];
  });
}

function swap(node: SheetNode, token: string): void {
  const state = swaps.get(node) ?? { running: false };
  swaps.set(node, state);
  state.next = token;
  if (!state.running) void run(node, state);
}

/** One swap of a node at a time: two at once can leave it waiting for ever. */
async function run(node: SheetNode, state: Swap): Promise<void> {
  state.running = true;
  while (state.next !== undefined) {
    const token = state.next;
    state.next = undefined;
    await cover(node, token, state);
  }
  state.running = false;
}

/** Puts the new sheet over the old one, changes the old one below it, and takes the cover away. */
async function cover(node: SheetNode, token: string, state: Swap): Promise<void> {
  const refresh = refresher(node, token);
  if (isLink(node) && node.disabled) return refresh(node); // it is not loaded: nothing to wait for
  const before = source(node);
  const stand = node.cloneNode(true) as SheetNode;
  for (const name of ['id', 'onload', 'onerror']) stand.removeAttribute(name);
  refresh(stand);
  const off = node.sheet?.disabled ?? false;
  const ready = loaded(stand, off);
  node.after(stand);
  // A sheet that does not come leaves the old one, and so does a script that was quicker than we.
  if ((await ready) && node.isConnected && source(node) === before) {
    const done = loaded(node, off);
    refresh(node);
    if (!(await done)) {
      state.cover?.remove();
      state.cover = stand;
      return;
    }
    state.cover?.remove();
  }
  stand.remove();
}

function source(node: SheetNode): string {
  return isLink(node) ? node.href : node.textContent;
}

/** What makes a node, or its clone, fetch again. */
function refresher(node: SheetNode, token: string): (node: SheetNode) => void {
  if (isLink(node)) {
    const href = withToken(node.getAttribute('href') ?? '', token);
    return (target) => {
      target.removeAttribute('integrity'); // it is that of what was saved over
      target.setAttribute('href', href);
    };
  }
  let text = node.textContent;
  for (const { href } of importRules(node.sheet)) text = text.split(href).join(withToken(href, token));
  return (target) => {
    // Another text in the same node is one step; textContent would be two, with nothing in between.
    if (target.firstChild instanceof Text && target.childNodes.length === 1) target.firstChild.data = text;
    else target.textContent = text;
  };
}

/** Resolves when the sheet applies: to false if it does not come. */
function loaded(node: SheetNode, disabled: boolean): Promise<boolean> {
  return new Promise((resolve) => {
    const end = ({ type }: { readonly type: string }) => {
      clearTimeout(timer);
      if (disabled && node.sheet) node.sheet.disabled = true;
      // An error may be that of a sheet it imports.
      resolve(type === 'load' || importRules(node.sheet).length > 0);
    };
    const timer = setTimeout(end, LIMIT, { type: 'timeout' });
    node.addEventListener('load', end, { once: true });
    node.addEventListener('error', end, { once: true });
  });
}
