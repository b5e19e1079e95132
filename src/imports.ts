// A stylesheet that was asked for under a version → the same, with its nested imports under that version too. Pure.
// Firefox takes nested imports from memory once it has them, whatever their headers say; a URL it has not seen it fetches.

/** Name of the query parameter that carries a stylesheet's version. */
export const VERSION_QUERY = 'live-sse';
/** In the place of a version: all remembered texts of the stylesheet, as JSON, the newest first. */
export const ALL_VERSIONS = 'all';

const VERSION = new RegExp(`[?&]${VERSION_QUERY}=([\\w.-]{1,128})(?:&|$)`);

/** The version in a query (`?live-sse=<token>`), or `undefined`. It is made of letters, digits, `.`, `_` and `-`. */
export function versionOf(query: string): string | undefined {
  return VERSION.exec(query)?.[1];
}

// What may stand before and between imports (CSS Cascading 5, section 2). The first alternative is a BOM read as Latin-1.
const SKIPPED = /(?:\xef\xbb\xbf|\s|\/\*.*?\*\/|<!--|-->|@charset\s+"[^"]*"\s*;|@layer\s[^{};]*;)*/isy;
const IMPORT =
  /@import(?:\s|\/\*.*?\*\/)*(?:"([^"\n\\]*)"|'([^'\n\\]*)'|url\(\s*(?:"([^"\n\\]*)"|'([^'\n\\]*)'|([^\s"'()\\]+))\s*\))[^;{}]*(?:;|$)/disy;

/**
 * The stylesheet with the version in the query of each `@import`. Only what stands before any rule is read, where imports
 * are allowed. URLs with escapes, of other schemes or with a host are left alone.
 */
export function versionImports(css: string, version: string): string {
  let versioned = '';
  let copied = 0;
  let position = 0;
  for (;;) {
    SKIPPED.lastIndex = position;
    IMPORT.lastIndex = position + (SKIPPED.exec(css)?.[0].length ?? 0);
    const found = IMPORT.exec(css);
    if (!found) return versioned + css.slice(copied);
    position = IMPORT.lastIndex;
    const [, [start, end] = [position, position]] = (found.indices ?? []).filter(Boolean);
    versioned += css.slice(copied, start) + versionUrl(css.slice(start, end), version);
    copied = end;
  }
}

function versionUrl(url: string, version: string): string {
  if (url === '' || /^(?:[a-z][a-z\d+.-]*:|\/\/)/i.test(url)) return url;
  const [, path = '', query = '', fragment = ''] = /^([^?#]*)(\?[^#]*)?(#.*)?$/s.exec(url) ?? [];
  return `${path}${query}${query ? '&' : '?'}${VERSION_QUERY}=${version}${fragment}`;
}
