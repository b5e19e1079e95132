// Reload events → a warning where one file causes too many: pages that write it by loading would never come to rest.

/** So many reloads for one path within `PERIOD` ms are more than a person saves. */
const LIMIT = 4;
const PERIOD = 2000;

/** A function that takes the paths of each reload event, and gives lines for the terminal. */
export function watchForLoops(): (paths: readonly string[]) => string[] {
  const times = new Map<string, number[]>();

  function isLoop(path: string, now: number): boolean {
    const recent = [...(times.get(path) ?? []), now].filter((time) => now - time <= PERIOD);
    times.set(path, recent);
    return recent.length === LIMIT;
  }

  return (paths) => {
    const now = performance.now();
    for (const [path, all] of times) if (now - (all.at(-1) ?? 0) > PERIOD) times.delete(path);
    return paths.filter((path) => isLoop(path, now)).map(warning);
  };
}

function warning(path: string): string {
  return `${path} changed four times in two seconds. If loading a page writes it, so that pages reload again and again, start with --ignore ${JSON.stringify(nameOf(path))}`;
}

function nameOf(path: string): string {
  try {
    return decodeURIComponent(path.slice(1));
  } catch {
    return path; // classify may give anything
  }
}
