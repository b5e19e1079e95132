// The vocabulary of the event stream, and the decision which event a batch of changes becomes.
// Pure: nothing here touches a disk, a socket or a clock. The types are shared with client/.

/** One entry that appeared, changed or went away. */
export interface Change {
  readonly type: 'add' | 'change' | 'unlink';
  /** Absolute path on the disk. */
  readonly file: string;
  /** URL path, percent-encoded; absent for a file that no URL leads to. */
  readonly path?: string;
}

/** A change as the watcher finds it. */
export interface Found extends Change {
  /** What tells the bytes that went from others, and those that came: as far as that is known. */
  readonly before?: string | undefined;
  readonly after?: string | undefined;
}

/** What a page hears of a change. */
export interface PageEvent {
  readonly type: 'reload' | 'css';
  /** URL paths, percent-encoded as a browser requests them. Empty: every page is concerned. */
  readonly paths: readonly string[];
  /** Those of `paths` that are not there any more. @default none */
  readonly gone?: readonly string[];
  /** What changed are templates that no URL leads to: a page is another now if its own URL gives something else. */
  readonly templates?: true;
}

/** What saved stylesheets and pages are now, by their URL paths. */
export type Texts = Readonly<Record<string, string>>;

/** Why a build is broken: what the overlay shows. Lines and columns count from 1. */
export interface Failure {
  readonly message: string;
  /** Relative to the working folder, or a URL path: never absolute on the disk. */
  readonly file?: string;
  readonly line?: number;
  readonly column?: number;
  /** The code around the place, plain text. */
  readonly frame?: string;
  readonly stack?: string;
  /** The last output of a command; may hold ANSI colours. */
  readonly output?: string;
  /** The command that failed, as the user wrote it. */
  readonly command?: string;
}

/** A piece of text, all in one style. */
export type Run =
  | string
  | {
      readonly text: string;
      /** Of s1 (bold), s2 (dim), s3 (italic) and s4 (underlined), those that apply. */
      readonly look?: string;
      /** Colours as CSS has them. */
      readonly color?: string;
      readonly back?: string;
    };

/** A piece of what a failure tells: text, or a place that can be opened in the editor. */
export type Piece = Run | { readonly place: Place; readonly runs: readonly Run[] };

export type Place = readonly [file: string, line?: number, column?: number];

/** The texts of a failure in pieces, as pages show them; those that have no colour and name no place are left out. */
export type Painted = {
  readonly [Text in 'message' | 'frame' | 'output' | 'stack']?: readonly Piece[];
};

/** What a `failure` event carries. */
export interface PaintedFailure extends Failure {
  readonly painted?: Painted;
}

/** Event types that only the server itself sends. */
export const RESERVED_TYPES = [
  'reload',
  'css',
  'failure',
  'hello',
  'ping',
  'open',
  'error',
  'message',
] as const;

/** What two changes of one file are together, to who has heard of neither; `undefined`: nothing that could be known of. */
export function merge(first: Found | undefined, last: Found): Found | undefined {
  if (!first) return last;
  // Bytes that were there for a while may have been seen.
  const isFirst = first.after === undefined || first.after === first.before;
  const both = { ...last, before: isFirst ? first.before : undefined };
  if (first.type === 'add') return last.type === 'unlink' ? undefined : { ...both, type: 'add' };
  return last.type === 'unlink' ? both : { ...both, type: 'change' };
}

// What encodeURIComponent escapes and a browser leaves alone in a path (URL Standard, path percent-encode set).
const LEFT_ALONE = /%(24|26|2B|2C|3A|3B|3D|40|5B|5D|7C)/g;

/** The URL path of a file in a folder, or `undefined` if the file is not below it. `separator` is the disk's. */
export function toPath(folder: string, file: string, separator = '/'): string | undefined {
  const prefix = folder.endsWith(separator) ? folder : folder + separator;
  const begin = file.slice(0, prefix.length);
  // On Windows letter case means nothing: an editor's terminal has `c:`, a tool `C:`.
  const isBelow = begin === prefix || (separator === '\\' && begin.toLowerCase() === prefix.toLowerCase());
  if (!isBelow) return undefined;
  const segments = file.slice(prefix.length).split(separator);
  return `/${segments.map(encodeSegment).join('/')}`;
}

function encodeSegment(segment: string): string {
  return encodeURIComponent(segment.replace(/\p{Cs}/gu, '\ufffd')).replace(LEFT_ALONE, (escaped) =>
    decodeURIComponent(escaped),
  );
}

// What a server makes pages of, and no browser asks for. Anything else without a URL may be a file that pages load.
const TEMPLATE =
  /\.(?:html?|ejs|eta|pug|jade|hbs|handlebars|mustache|njk|nunjucks|liquid|twig|vto|edge|marko|dust|md|erb|haml|slim|php|phtml|latte|j2|jinja2?|mako|tmpl|tpl|gotmpl|gohtml|templ|e?eex|heex|leex|jsp|jspx|ftlh?|cshtml|razor|vm)$/i;

/** What build tools write beside a file, for the developer tools of a browser: nothing that is seen. */
const SOURCE_MAP = /\.(?:css|[cm]?js)\.map$/i;

/**
 * The event a batch of changes becomes: `css` if each is a stylesheet that still exists, `reload` for anything else.
 * A change without a path concerns every page, so the paths of its batch are left out; `templates` if all are of that kind.
 * A source map that comes with other changes is not told of.
 */
export function classify(batch: readonly Change[]): PageEvent | undefined {
  const seen = batch.filter(({ file }) => !SOURCE_MAP.test(file));
  const changes = seen.length > 0 ? seen : batch;
  if (changes.length === 0) return undefined;
  const last = new Map<string, Change['type']>();
  let everyone = false;
  let type: PageEvent['type'] = 'css';
  for (const change of changes) {
    if (change.path === undefined) everyone = true;
    else last.set(change.path, change.type);
    if (change.type === 'unlink' || !/\.css$/i.test(change.file)) type = 'reload';
  }
  if (everyone) {
    const isTemplate = ({ path, file }: Change) => path === undefined && TEMPLATE.test(file);
    return changes.every(isTemplate)
      ? { type: 'reload', paths: [], templates: true }
      : { type: 'reload', paths: [] };
  }
  const paths = [...last.keys()];
  const gone = paths.filter((path) => last.get(path) === 'unlink');
  return gone.length > 0 ? { type, paths, gone } : { type, paths };
}
