// A request target → the file or folder it names, inside the root or a mount, or nothing. The one door: no other code turns
// something of a request into a path on the disk. It looks at the disk, but reads no file's content and answers nobody.

import { type BigIntStats, readdirSync, realpathSync, statSync } from 'node:fs';
import { join, parse, resolve, sep } from 'node:path';
import { toPath } from './events.ts';
import { closest, lower } from './near.ts';

/** The path of a request target, decoded once. */
export interface Target {
  /** Decoded, never empty, never `.` or `..`, without separators and control characters. */
  readonly segments: readonly string[];
  /** It ends with a slash: a folder is meant. */
  readonly slash: boolean;
  /** The query as it was sent, with its `?`; empty if there is none. It takes no part in choosing a file. */
  readonly query: string;
}

/** A regular file that may be served. */
export interface FoundFile {
  readonly type: 'file';
  /** Absolute path below the root or mount as it was given, links not resolved: the name a watcher knows it by. */
  readonly file: string;
  /** URL path of the file itself: `/docs/index.html` for a request of `/docs/`. */
  readonly path: string;
  /** What was found at the end of all links, when they were checked. */
  readonly stats: BigIntStats;
}

/** A folder without an index. */
export interface FoundFolder {
  readonly type: 'folder';
  /** URL path with a slash at the end. */
  readonly path: string;
  readonly entries: readonly Entry[];
}

/** What a request target leads to. */
export type Found =
  | FoundFile
  | FoundFolder
  | { readonly type: 'redirect'; readonly location: string }
  | { readonly type: 'missing' };

/** One line of a listing. */
export interface Entry {
  readonly name: string;
  readonly folder: boolean;
  /** Bytes. */
  readonly size: number;
  readonly modified: Date;
}

export interface ResolverOptions {
  readonly mounts?: Readonly<Record<string, string>>;
  readonly followSymlinks?: boolean;
  readonly secret?: readonly string[];
  readonly onNotice?: (line: string) => void;
}

export interface Resolver {
  find(target: Target): Found;
  /** Absolute paths where a file that this target names would be. */
  candidates(target: Target): string[];
  /** URL paths of what may have been meant, best first. */
  near(target: Target): string[];
}

const INDEXES = ['index.html', 'index.htm'] as const;
const CLEAN = ['.html', '.htm'];
const KEY = /\.(pem|key|p12|pfx)$/i;
const MOST_ENTRIES = 2_000;
const MOST_SUGGESTIONS = 5;

// What Windows takes for something other than a plain name: streams, devices, dropped dots and spaces, short names (GIT~1).
const ODD_ON_WINDOWS = /[:*?"<>|]|[. ]$|~\d|^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i;

/**
 * Reads a request target (RFC 9112, 3.2.1: origin-form only): the path ends at the first `?` or `#`, and each segment is
 * percent-decoded once. `undefined` for any other form, bad encoding, `//`, dot segments, encoded separators and control
 * characters.
 */
export function parseTarget(raw: string | undefined): Target | undefined {
  const [, path = '', query = ''] = /^(\/[^?#]*)(\?[^#]*)?/.exec(raw ?? '') ?? [];
  if (path === '' || path.includes('//') || path.includes('\\')) return undefined;
  const slash = path.endsWith('/');
  const encoded = path.slice(1, slash ? -1 : undefined);
  if (encoded === '') return { segments: [], slash, query };
  const segments = encoded.split('/').map(decodeSegment);
  return segments.every((segment) => segment !== undefined) ? { segments, slash, query } : undefined;
}

function decodeSegment(encoded: string): string | undefined {
  try {
    // Node hands on bytes above 127 that were not encoded (curl sends them so) as Latin-1: they are UTF-8 here like the rest.
    const segment = decodeURIComponent(encoded.replace(/[\x80-\xff]/g, encodeURIByte));
    return /[\p{Cc}/\\]|^\.{1,2}$/u.test(segment) ? undefined : segment;
  } catch {
    return undefined; // not percent-encoding, or not UTF-8
  }
}

function encodeURIByte(character: string): string {
  return `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/**
 * Is a name of this path one that is never served? Those that start with a dot, but for a `.well-known` in the first place
 * (RFC 8615), and keys. Format characters don't count: some disks ignore them.
 */
export function isHidden(segments: readonly string[]): boolean {
  return segments.some((segment, i) => {
    const name = segment.replace(/\p{Cf}/gu, '');
    return (name.startsWith('.') && !(i === 0 && segment === '.well-known')) || KEY.test(name);
  });
}

/** Would Windows take this name for another one, or for something that is no file? */
export function isOddOnWindows(name: string): boolean {
  return ODD_ON_WINDOWS.test(name);
}

/** The target of a name that is given by the user, not by a request. */
export function targetOf(name: string): Target {
  return { segments: name.split('/').filter(Boolean), slash: false, query: '' };
}

/** The decoded path, for people. */
export function nameOf({ segments, slash }: Target): string {
  return `/${segments.join('/')}${slash && segments.length > 0 ? '/' : ''}`;
}

interface Base {
  readonly prefix: readonly string[];
  readonly dir: string;
}

type Look = Omit<FoundFile, 'path'> | { readonly type: 'folder'; readonly file: string };

/**
 * Finds files of a root and of folders mounted over it; where several have a claim, the longest prefix comes first and the
 * root last. A `RangeError` if one of them is the root of a disk.
 */
export function createResolver(root: string, options: ResolverOptions = {}): Resolver {
  const { mounts = {}, followSymlinks = false, onNotice = () => {} } = options;
  const secret = (options.secret ?? []).map((file) => resolve(file));
  const bases = Object.entries({ ...mounts })
    .map(([prefix, dir]) => base(prefix, dir))
    .sort((a, b) => b.prefix.length - a.prefix.length)
    .concat(base('/', root));

  function isInside(real: string): boolean {
    return bases.some((base) => {
      const dir = realAt(base.dir); // asked every time: it may be a link that is led elsewhere
      return dir !== undefined && (real === dir || real.startsWith(closed(dir)));
    });
  }

  function isSecret(stats: BigIntStats): boolean {
    return secret.some((file) => {
      const key = statAt(file);
      return key !== undefined && key.ino === stats.ino && key.dev === stats.dev;
    });
  }

  function look(base: Base, names: readonly string[]): Look | undefined {
    if (sep === '\\' && names.some(isOddOnWindows)) return undefined;
    const file = join(base.dir, ...names);
    const first = statAt(file);
    const real = first && realAt(file);
    if (!first || !real) return undefined;
    // Without a link on its way, and spelled as the disk does, it is inside by its name.
    const isPlain = real === file;
    if (!isPlain && !followSymlinks && !isInside(real)) {
      onNotice(`"${file}" is a link to something outside the folder: 404. --follow-symlinks would serve it`);
      return undefined;
    }
    const stats = isPlain ? first : statAt(real);
    if (!stats || isSecret(stats)) return undefined;
    if (!isPlain) tellCase(base, names, real);
    if (stats.isDirectory()) return { type: 'folder', file };
    return stats.isFile() ? { type: 'file', file, stats } : undefined;
  }

  // On a disk that doesn't mind letter case the file is found; on most servers the site is deployed to it would not be.
  function tellCase(base: Base, names: readonly string[], real: string): void {
    const named = real.slice(closed(realAt(base.dir) ?? base.dir).length).split(sep);
    if (named.length !== names.length) return;
    const i = names.findIndex((name, i) => !isSame(name, named[i]) && isSame(lower(name), lower(named[i])));
    const [asked, name] = [names[i], named[i]];
    if (asked === undefined || name === undefined) return;
    // A link of the asked name to the other one is no mistake.
    if (!namesIn(join(base.dir, ...names.slice(0, i))).includes(asked)) onNotice(wrongCase(asked, name));
  }

  function findIn(base: Base, target: Target): Found | undefined {
    const { segments, slash, query } = target;
    const names = segments.slice(base.prefix.length);
    const found = (rest: readonly string[]) => {
      const there = look(base, rest);
      return there?.type === 'file' ? { ...there, path: pathOf([...base.prefix, ...rest]) } : undefined;
    };
    // Most folders that are asked for have one, and what has one is a folder.
    const [usual] = INDEXES;
    const start = slash ? found([...names, usual]) : undefined;
    if (start) return start;
    const there = look(base, names);
    if (there?.type === 'file') return slash ? undefined : { ...there, path: pathOf(segments) };
    const last = names.at(-1);
    const pages = last === undefined ? [] : CLEAN.map((ending) => [...names.slice(0, -1), last + ending]);
    const page = first(pages, found);
    if (page && !slash) return page;
    if (there?.type === 'folder') {
      if (!slash) return { type: 'redirect', location: `${pathOf(segments)}/${safe(query)}` };
      const index = first(
        INDEXES.map((name) => [...names, name]),
        found,
      );
      return index ?? { type: 'folder', path: closedPath(segments), entries: entries(base, names) };
    }
    // about.html at `/about/` would look for its images in a folder that isn't there: it has one address, without the slash.
    return page && { type: 'redirect', location: pathOf(segments) + safe(query) };
  }

  function entries(base: Base, names: readonly string[]): Entry[] {
    const seen: Entry[] = [];
    for (const name of namesIn(join(base.dir, ...names))) {
      if (seen.length === MOST_ENTRIES) break;
      if (isHidden(['', name])) continue;
      const there = look(base, [...names, name]);
      const stats = there && (there.type === 'file' ? there.stats : statAt(there.file));
      if (!there || !stats) continue;
      const [size, modified] = [Number(stats.size), stats.mtime];
      seen.push({ name, folder: there.type === 'folder', size, modified });
    }
    const order = new Intl.Collator('en', { numeric: true });
    return seen.sort((a, b) => Number(b.folder) - Number(a.folder) || order.compare(a.name, b.name));
  }

  function findExactly(target: Target): Found {
    let folder: Found | undefined;
    for (const base of claiming(target)) {
      const found = findIn(base, target);
      if (found && found.type !== 'folder') return found;
      folder ??= found;
    }
    return folder ?? { type: 'missing' };
  }

  function claiming({ segments }: Target): Base[] {
    return bases.filter((base) => base.prefix.every((name, i) => name === segments[i]));
  }

  /** The same path as the disk spells it, if it has the same letters in the other normal form. */
  function respell(base: Base, target: Target): Target | undefined {
    const segments = [...base.prefix];
    for (const name of target.segments.slice(base.prefix.length)) {
      const dir = join(base.dir, ...segments.slice(base.prefix.length));
      const entry = namesIn(dir).find((entry) =>
        ['', ...CLEAN].some((ending) => isSame(entry, name + ending)),
      );
      if (entry === undefined) return undefined;
      segments.push(isSame(entry, name) ? entry : entry.replace(/\.html?$/, ''));
    }
    return { ...target, segments };
  }

  return {
    find: (target) => {
      if (isHidden(target.segments)) {
        const [base] = claiming(target).filter((base) => statAt(fileOf(base, target)));
        if (base)
          onNotice(`"${pathOf(target.segments)}" is there, but hidden files and keys are not served: 404`);
        return { type: 'missing' };
      }
      const found = findExactly(target);
      if (found.type !== 'missing' || target.segments.every((name) => /^[\x20-\x7e]*$/.test(name)))
        return found;
      return (
        first(claiming(target), (base) => {
          const again = respell(base, target);
          const other = again && !isHidden(again.segments) ? findExactly(again) : undefined;
          return other?.type === 'missing' ? undefined : other;
        }) ?? found
      );
    },

    candidates: (target) => {
      if (isHidden(target.segments)) return [];
      return claiming(target).flatMap((base) => {
        const file = fileOf(base, target);
        return target.slash ? [join(file, 'index.html')] : [file, `${file}.html`];
      });
    },

    near: (target) => {
      if (isHidden(target.segments)) return [];
      const guesses = claiming(target).flatMap((base) => {
        const names = target.segments.slice(base.prefix.length);
        const depth = names.findIndex((_, i) => look(base, names.slice(0, i + 1))?.type !== 'folder');
        const wanted = names[depth];
        if (wanted === undefined) return [];
        const above = names.slice(0, depth);
        return closest(wanted, entries(base, above)).map((entry) => {
          if (lower(entry.name) === lower(wanted)) onNotice(wrongCase(wanted, entry.name));
          return pathOf([...base.prefix, ...above, entry.name]) + (entry.folder ? '/' : '');
        });
      });
      return [...new Set(guesses)].slice(0, MOST_SUGGESTIONS);
    },
  };
}

function base(prefix: string, folder: string): Base {
  const dir = resolve(folder);
  // sirv finds nothing there, and a whole disk is nothing to show to every page of a browser.
  if (parse(dir).root === dir)
    throw new RangeError(`Cannot serve "${dir}": it is the whole disk. Name a folder`);
  return { prefix: prefix.split('/').filter(Boolean), dir };
}

function fileOf(base: Base, { segments }: Target): string {
  return join(base.dir, ...segments.slice(base.prefix.length));
}

/** The URL path of decoded segments, encoded as a browser requests it. */
export function pathOf(segments: readonly string[]): string {
  return toPath('/', `/${segments.join('/')}`) ?? '/';
}

function closedPath(segments: readonly string[]): string {
  return segments.length === 0 ? '/' : `${pathOf(segments)}/`;
}

function closed(dir: string): string {
  return dir.endsWith(sep) ? dir : dir + sep;
}

// A query goes into a Location as it came, or not at all.
function safe(query: string): string {
  return /^\?[!-~]+$/.test(query) ? query : '';
}

function isSame(a: string, b = ''): boolean {
  return a.normalize() === b.normalize();
}

function wrongCase(asked: string, name: string): string {
  return `"${asked}" was asked for, the file is called "${name}": most servers mind the letter case`;
}

function first<A, B>(list: readonly A[], look: (item: A) => B | undefined): B | undefined {
  for (const item of list) {
    const found = look(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

function statAt(file: string): BigIntStats | undefined {
  try {
    return statSync(file, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined; // a loop of links, a name too long, a folder that may not be entered
  }
}

function realAt(file: string): string | undefined {
  try {
    return realpathSync.native(file);
  } catch {
    return undefined; // gone since, or never there
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // not a folder, or one that may not be read
  }
}
