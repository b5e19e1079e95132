// Is this page made of that file? A page reacts only to its own document and to what it has loaded or tried to load.
// Where that cannot be known the answer is yes: a needless reload is better than a stale page.

/** Milliseconds that a worker's script takes to come, where that is not known. */
const START = 5000;

/** The name of what a window has in which our script runs. */
export const TWICE = Symbol.for('live-sse');
/** So many loads are remembered, for the parts that come later: a page of many modules soon has more than the usual 250. */
export const TOLD = 10_000;

/** Answers for one page. Paths are compared in the form that `pathOf` gives. */
export interface Uses {
  readonly pathOf: (url: string) => string;
  /** Is it the file the page itself is? */
  readonly isOwn: (path: string) => boolean;
  /** Is the page concerned by a change of this file? */
  readonly uses: (path: string) => boolean;
}

/** The path of a URL, decoded: `%7E` and `~` name the same file. What is no URL, or names no file, stays as it is. */
export function pathIn(url: string, base?: string): string {
  try {
    return decodeURIComponent(new URL(url, base).pathname);
  } catch {
    return url;
  }
}

/**
 * Is the document at `path` made of the file at `changed`? Both canonical.
 * @param file the path of the document's file, if the server said so
 */
export function isOwnFile(changed: string, path: string, file?: string): boolean {
  const bare = path.replace(/\/$/, '');
  const files = [file, path, `${bare}/index.html`, `${bare}.html`];
  // A document without a file may be the list of a folder: what appears in the folder concerns it.
  return files.includes(changed) || (!file && path === changed.replace(/[^/]*$/, ''));
}

/**
 * Starts to note what the page loads.
 * @param own URL path of the document's file, if the server said so
 * @param ours URL of the worker that is not the page's
 * @param onLate hears of a path that was said not to be used, when it comes and was asked for before that, at `start`
 */
export function watchUses(
  own: string | undefined,
  ours: string,
  onLate: (path: string, start: number) => void,
): Uses {
  const pathOf = (url: string) => pathIn(url, document.baseURI);
  const loaded = new Set<string>();
  /** When the page was last asked about what it does not use. */
  const denied = new Map<string, number>();
  let unknown = false;
  let workers = false;

  const note = (entries: PerformanceEntryList) => {
    for (const entry of entries) {
      const { initiatorType, startTime, duration } = entry as PerformanceResourceTiming;
      const path = pathOf(entry.name);
      // What is in a frame is the concern of the frame; what a worker loads cannot be seen from here.
      if (!/frame/.test(initiatorType)) {
        loaded.add(path);
        // It was on its way, and may be what the file was before. Chromium takes the end of a worker's script for its start.
        const start = startTime - (duration < 0 ? START : 0);
        if (start < (denied.get(path) as number)) onLate(path, start); // nothing is before undefined
      }
      // In WebKit our own worker is among them.
      if (initiatorType === 'other' && /js$/.test(path) && entry.name !== ours) workers = true;
    }
  };
  const observer = new PerformanceObserver((list, _, options?: { droppedEntriesCount?: number }) => {
    note(list.getEntries());
    if (options?.droppedEntriesCount) unknown = true;
  });
  observer.observe({ type: 'resource', buffered: true });
  performance.setResourceTimingBufferSize(TOLD);

  const isOwn = (path: string) => isOwnFile(path, pathOf(location.href), own);
  const uses = (path: string) => {
    note(observer.takeRecords());
    if (unknown || (workers && !/\.(css|html?)$/.test(path))) return true;
    if (loaded.has(path) || isOwn(path) || isNamed(path) || isFramed(path)) return true;
    denied.set(path, performance.now());
    return false;
  };
  // What is still on its way is not noted yet, and not every engine notes what was missing.
  const isNamed = (path: string) =>
    [...document.querySelectorAll('[src]:not(iframe,frame),link[href]')].some(
      (node) => pathOf(node.getAttribute('src') ?? node.getAttribute('href') ?? '') === path,
    );
  // A frame without an address (srcdoc, or written by a script) has no script of ours either.
  const isFramed = (path: string) =>
    [...document.querySelectorAll<HTMLIFrameElement>('iframe:not([src])')].some(({ contentDocument }) => {
      const view = contentDocument?.defaultView;
      return (
        view &&
        !(TWICE in view) &&
        view.performance.getEntriesByType('resource').some(({ name }) => pathOf(name) === path)
      );
    });
  return { pathOf, isOwn, uses };
}
