// Which names never notify, and what the user wants ignored besides: names and paths in, yes or no out.
// Pure: nothing here touches a disk. picomatch is imported here only.

import { sep } from 'node:path';

/** What to ignore: a glob, name or path relative to the watched folder; or, on the absolute path, a RegExp or a function. */
export type Matcher = string | RegExp | ((file: string) => boolean);

// Folders and files that tools make for themselves, beside everything that starts with a dot.
const TOOLS = new Set([
  'node_modules',
  'bower_components',
  '__pycache__',
  'CVS',
  'Thumbs.db',
  'desktop.ini',
  '$RECYCLE.BIN',
  'System Volume Information',
]);

const TEMPORARY = new RegExp(
  [
    '~$', // vim, emacs, gedit, nano: backups
    '^~\\$', // office programs: lock files
    '^#.*#$', // emacs: auto-save
    '^(4913|5036)$', // vim: is the folder writable?
    '\\.sw[a-z]$', // vim: swap files
    '\\.tmp(-.*|[.\\d]+)?$', // write-file-atomic, npm and many more
    '___jb_(tmp|old|bak)___$', // JetBrains: safe write
    '\\.vsctmp$', // VS Code: atomic save
    '\\.crswap$', // Chromium: File System Access API
    '^sed(?=.*[A-Z\\d])[A-Za-z\\d]{6}$', // sed -i
  ].join('|'),
);

let picomatch: typeof import('picomatch') | undefined;

/** What globs among the matchers need; it takes its time to load, and most people have none. They ignore nothing before. */
export async function loadGlobs(matchers: readonly Matcher[]): Promise<void> {
  if (matchers.some((matcher) => typeof matcher === 'string'))
    picomatch ??= (await import('picomatch')).default;
}

/** Is this the name of something that is no part of a site: hidden, a tool's own, or an editor's temporary file? */
export function neverNotifies(name: string): boolean {
  if (name.startsWith('.')) return name !== '.well-known';
  return TOOLS.has(name) || TEMPORARY.test(name);
}

/**
 * A question about paths below `root`: is the entry, or a folder on the way to it, ignored? The root itself never is,
 * whatever its own path contains. `separator` is the disk's.
 * @throws {TypeError} a matcher that is none
 */
export function createIgnore(
  root: string,
  matchers: readonly Matcher[] = [],
  separator: string = sep,
): (file: string) => boolean {
  const prefix = root.endsWith(separator) ? root : root + separator;
  const tests = matchers.map((matcher) => toTest(prefix, matcher, separator));
  return (file) => {
    if (!file.startsWith(prefix)) return false;
    let end = prefix.length;
    for (const name of file.slice(prefix.length).split(separator)) {
      end += name.length;
      if (neverNotifies(name)) return true;
      const path = file.slice(0, end);
      if (tests.some((test) => test(path, name))) return true;
      end += separator.length;
    }
    return false;
  };
}

type Test = (path: string, name: string) => boolean;

function toTest(prefix: string, matcher: Matcher, separator: string): Test {
  if (typeof matcher === 'function') return (path) => matcher(path);
  // Not test(): with the flags g and y it starts where it stopped the last time.
  if (matcher instanceof RegExp) return (path) => path.search(matcher) !== -1;
  if (typeof matcher !== 'string')
    throw new TypeError(`Cannot ignore ${String(matcher)}: it is no string, RegExp or function`);
  return toGlob(prefix, matcher, separator);
}

// As in .gitignore: a pattern without a slash is a name at any depth, one with a slash starts at the watched folder.
function toGlob(prefix: string, text: string, separator: string): Test {
  const toPosix = (path: string) => (separator === '/' ? path : path.replaceAll(separator, '/'));
  const relative = text.startsWith(prefix) ? text.slice(prefix.length) : text;
  const pattern = toPosix(relative).replace(/^(\.?\/)+|\/+$/g, '');
  if (pattern === '') return () => false;
  let compiled: ((path: string) => boolean) | undefined;
  const matches = (path: string) => {
    compiled ??= picomatch?.(pattern, { dot: true, nonegate: true });
    return compiled?.(path) ?? false;
  };
  const anyDepth = !/^\.?\//.test(toPosix(relative)) && relative === text && !pattern.includes('/');
  if (anyDepth) return (_, name) => name === pattern || matches(name);
  return (path) => {
    const below = toPosix(path.slice(prefix.length));
    return below === pattern || matches(below);
  };
}
