// New bytes of images, fonts, icons and media, shown in place. What is there stays until the new file has come, and stays
// for good if it does not. Nodes stay the same; addresses get the token of the change as the last part of their query.

import { withToken } from './token.ts';
import { pathIn, TOLD } from './uses.ts';
import { type AnyRule, event, rootsOf, rulesOf } from './walk.ts';

const SWAPPABLE = /\.(a?png|jpe?g|gif|web[mp]|avif|svg|ico|bmp|woff2?|[ot]tf|mp[34]|m4[av]|og[gav]|wav)$/i;
const ATTRIBUTE = /^(src|srcset|href|xlink:href|data|poster|background|style)$/;
/** Elements that lead to a file, or run in a document of their own. */
const ELSEWHERE = /^(a|area|base|i?frame)$/;
/** Where addresses are: in an attribute, in a srcset, in CSS. */
const WHOLE = /\S(.*\S)?/;
const CANDIDATES = /[^\s,]\S*[^\s,]/g;
const CSS = /url\(\s*[^"')\s]+|"[^"]+"|'[^']+'/g;
/** The token of the newest bytes of each path. */
const tokens = new Map<string, string>();
let count = 0;
/** Images that are loaded stay in the browser's memory until the page has taken them up. */
let held = new Map<string, HTMLImageElement>();

/** A text with the address of a changed file in it. */
interface Use {
  /** What addresses in it are relative to. */
  readonly base: string;
  readonly pattern: RegExp;
  readonly read: () => string;
  readonly write: (text: string) => unknown;
  /** Loads a file, so that it can be shown at once. */
  readonly load: (url: string) => unknown;
  /** It cannot be told what becomes of another address. */
  readonly unsure?: boolean;
}

/** May such a file be swapped wherever a page shows it? */
export function isSwappable(path: string): boolean {
  return SWAPPABLE.test(path);
}

/**
 * Shows the new bytes of files wherever the page uses them. Uses that have come since an earlier swap get the newest bytes
 * too, even if `paths` is empty: for an address that it has seen, a browser shows the old ones from its memory.
 *
 * @param paths as `Uses` has them
 * @returns `false` if a use cannot be swapped in place, or none was found: then only a reload is sure to be right
 */
export async function swapAssets(paths: readonly string[]): Promise<boolean> {
  const changed = new Set(paths);
  // What a script has fetched it may show in any way.
  const loaded: Partial<PerformanceResourceTiming>[] = performance.getEntriesByType('resource');
  const isFetched = ({ name = '', initiatorType = '' }) =>
    /^(fetch|xml)/.test(initiatorType) && !/[?&]live-sse=/.test(name) && changed.has(pathIn(name));
  if (loaded.length >= TOLD || loaded.some(isFetched)) return false;
  const token = `${Date.now().toString(36)}-${++count}`;
  for (const path of changed) tokens.set(path, token);
  held = new Map();
  const uses = [...usesOf()].filter((use) => {
    const { found } = renew(use);
    for (const path of found.values()) changed.delete(path);
    return found.size > 0;
  });
  if (changed.size > 0 || uses.some(({ unsure }) => unsure)) return false;
  await Promise.all(uses.map(swap));
  return true;
}

/** The text with addresses of the newest bytes, and the paths of those that were not, by their new address. */
function renew({ read, pattern, base }: Use): { readonly text: string; readonly found: Map<string, string> } {
  const found = new Map<string, string>();
  const text = read().replace(pattern, (match) => {
    const old = match.replace(/^(url\(\s*|["'])|["']$/g, '');
    // So WebKit writes what it has of a variable: url(a\.svg).
    const plain = /^url/.test(match) ? old.replace(/\\(?=\W)/g, '') : old;
    try {
      const { href, origin } = new URL(plain, base);
      const path = pathIn(href);
      const token = origin === location.origin && tokens.get(path);
      const renewed = token ? withToken(plain, token) : plain;
      if (renewed === plain) return match;
      found.set(new URL(renewed, base).href, path);
      return match.replace(old, () => (plain === old ? renewed : `"${renewed}"`));
    } catch {
      return match; // not an address
    }
  });
  return { text, found };
}

async function swap(use: Use): Promise<void> {
  const { text, found } = renew(use);
  try {
    await Promise.all([...found.keys()].map(use.load));
    // A newer swap, or a script, may have been quicker.
    if (renew(use).text === text) await use.write(text);
  } catch {} // it cannot be loaded, or shown: the old one stays
}

function* usesOf(): Generator<Use> {
  for (const root of rootsOf()) {
    for (const element of root.querySelectorAll('*')) {
      for (const attribute of element.attributes) {
        if (ATTRIBUTE.test(attribute.name)) yield* usesIn(element, attribute);
      }
    }
    for (const sheet of [...root.styleSheets, ...root.adoptedStyleSheets])
      yield* usesInRules(sheet, sheet.href);
  }
}

function* usesIn(element: Element, attribute: Attr): Generator<Use> {
  const { localName } = element;
  const inCss = attribute.name === 'style';
  if (!inCss && ELSEWHERE.test(localName)) return;
  if (localName === 'link' && !/icon/i.test(element.getAttribute('rel') ?? '')) return;
  const media = localName === 'source' ? element.parentNode : element;
  const write = (text: string) => {
    attribute.value = text;
  };
  yield {
    base: document.baseURI,
    pattern: inCss ? CSS : attribute.name === 'srcset' ? CANDIDATES : WHOLE,
    read: () => attribute.value,
    // A custom element may have looked at it once.
    unsure: !inCss && localName.includes('-'),
    load: (url) => loadImage(url, element.getAttribute('crossorigin')),
    write,
    ...(/^(use|object|embed)$/.test(localName) &&
      !inCss && {
        load: isThere,
        write: (text: string) => cover(element as HTMLElement, attribute.name, text),
      }),
    ...(media instanceof HTMLMediaElement &&
      attribute.name === 'src' && {
        load: (url: string) => {
          const probe = document.createElement('video');
          probe.src = url;
          return event(probe, 'loadeddata');
        },
        write: (text: string) => keepTime(media, () => write(text)),
      }),
  };
}

/** @param base of the addresses in it: `null` for the page's own */
function* usesInRules(
  owner: Pick<AnyRule, 'cssRules'> | null | undefined,
  base: string | null = null,
): Generator<Use> {
  for (const rule of rulesOf(owner)) {
    const { style, styleSheet } = rule;
    yield* usesInRules(styleSheet, styleSheet?.href);
    yield* usesInRules(rule, base);
    if (!style) continue;
    const write = (text: string) => {
      style.cssText = text;
    };
    yield {
      base: base ?? document.baseURI,
      pattern: CSS,
      read: () => style.cssText,
      load: (url) => loadImage(url, /mask|shape-outside/.test(style.cssText) ? '' : null),
      write,
      ...(rule instanceof CSSFontFaceRule && fontUse(rule)),
    };
  }
}

/** Loads an image once for all its uses of one mode: only those take it from memory. */
function loadImage(url: string, crossOrigin: string | null): Promise<void> {
  const key = `${crossOrigin} ${url}`;
  const image = held.get(key) ?? new Image();
  if (!image.src) {
    held.set(key, image);
    image.crossOrigin = crossOrigin;
    image.src = url;
  }
  return image.decode();
}

/** Rejects if a file is gone; whether it is must not depend on what a policy lets a script ask for. */
async function isThere(url: string): Promise<void> {
  const response = await fetch(url).catch(() => undefined);
  if (response && !response.ok) throw response;
}

/** Resolves when an element shows its file. That of `<use>` comes without an event, but in Chromium. */
function shown(element: Element): Promise<unknown> {
  const come = event(element, 'load');
  return element instanceof SVGUseElement ? Promise.race([come, hasBox(element)]) : come;
}

/** Passes so long a time that a page can ask again and again. */
function pause(): Promise<unknown> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}

async function hasBox(element: SVGGraphicsElement): Promise<void> {
  for (let i = 0; i < 100; i++) {
    await pause();
    if (element.getBBox().width) return;
  }
  throw new Error('Nothing to show');
}

/** Changes an element that is blank while it loads below a clone that has loaded already. */
async function cover(element: HTMLElement, name: string, text: string): Promise<void> {
  const stand = element.cloneNode(true) as typeof element;
  const load = (target: Element) => {
    const attribute = target.getAttributeNode(name);
    if (attribute) attribute.value = text;
    return shown(target);
  };
  stand.removeAttribute('id');
  // The <use> of an SVG has none of these, and needs none.
  const { offsetLeft, offsetTop, offsetWidth, offsetHeight } = element;
  stand.style.cssText += `;position:absolute;margin:0;visibility:hidden;box-sizing:border-box;left:${offsetLeft}px;top:${offsetTop}px;width:${offsetWidth}px;height:${offsetHeight}px`;
  try {
    const loaded = load(stand);
    element.after(stand);
    await loaded;
    stand.style.visibility = '';
    await load(element);
  } finally {
    stand.remove();
  }
}

/** Changes the file of a sound or a film, which goes on where it was. */
async function keepTime(media: HTMLMediaElement, write: () => void): Promise<void> {
  const { currentTime, paused, playbackRate, muted } = media;
  const ready = event(media, 'loadedmetadata');
  write();
  media.load();
  await ready;
  media.currentTime = currentTime;
  media.playbackRate = playbackRate;
  if (!paused) await media.play();
  media.muted = muted; // which WebKit forgets
}

/** How a font is swapped: one that has loaded stands in until that of the rule has loaded too. */
function fontUse(rule: CSSFontFaceRule): Pick<Use, 'load' | 'write'> {
  const { style } = rule;
  let face: FontFace | undefined;
  const value = (name: string) => style.getPropertyValue(name) || undefined;
  return {
    load: async (url) => {
      const next = new FontFace(unquoted(style.getPropertyValue('font-family')), `url("${url}")`, {
        style: value('font-style'),
        weight: value('font-weight'),
        stretch: value('font-stretch'),
        unicodeRange: value('unicode-range'),
        featureSettings: value('font-feature-settings'),
      });
      face = await next.load();
    },
    write: async (text) => {
      const stand = face;
      if (!stand) return;
      document.fonts.add(stand);
      try {
        style.cssText = text;
      } catch {
        replace(rule, `@font-face { ${text} }`); // Firefox lets nobody write there
      }
      document.documentElement.getClientRects(); // WebKit knows the new one no sooner
      const alike = [...document.fonts].filter((other) =>
        (['family', 'style', 'weight', 'stretch', 'unicodeRange'] as const).every(
          // Engines write a range in one case or the other.
          (name) => unquoted(other[name]).toLowerCase() === unquoted(stand[name]).toLowerCase(),
        ),
      );
      await Promise.all(alike.map((other) => other.load()));
      // In WebKit that does not wait for one that is on its way, or still to go.
      for (let i = 0; i < 500 && alike.some(({ status }) => /unloaded|loading/.test(status)); i++)
        await pause();
      document.fonts.delete(stand);
    },
  };
}

function replace(rule: CSSRule, text: string): void {
  const { parentRule, parentStyleSheet } = rule;
  const list = parentRule instanceof CSSGroupingRule ? parentRule : parentStyleSheet;
  const i = [...(list?.cssRules ?? [])].indexOf(rule);
  list?.insertRule(text, i);
  list?.deleteRule(i + 1);
}

function unquoted(text: string): string {
  return text.replace(/["']/g, '');
}
