// A page that another server sends, with our script from this one. That server may have let the browser keep files for a
// while, so what has changed is fetched past its cache before it is shown. Fetched by such pages alone.

/** Milliseconds after which a file that does not come is given up. */
const LIMIT = 5000;
/** Loads that may be more than that of a file: what a script asks for, and other pages. */
const ASKED = /^(fetch|xmlhttprequest|beacon|eventsource|i?frame|navigation)$/;
const IS_FIREFOX = CSS.supports('-moz-appearance', 'none');

/**
 * Has the browser forget what it has kept of these files; without `paths`, of all that the page has loaded.
 * @returns whether it has: Firefox keeps a stylesheet that another imports in the memory of the page
 */
export async function refresh(
  paths: readonly string[] | undefined,
  pathOf: (url: string) => string,
): Promise<boolean> {
  const entries: Partial<PerformanceResourceTiming>[] = performance.getEntriesByType('resource');
  const loaded = entries
    .filter(({ initiatorType = '' }) => !ASKED.test(initiatorType))
    .map(({ name = '' }) => name.replace(/[?&]live-sse=[^&]*$/, ''));
  const urls = [...new Set(loaded)].filter(
    (url) => new URL(url).origin === location.origin && (!paths || paths.includes(pathOf(url))),
  );
  await Promise.all(urls.map(renew));
  const imported = entries.filter(({ initiatorType }) => initiatorType === 'css');
  return !IS_FIREFOX || !imported.some(({ name = '' }) => paths?.includes(pathOf(name)));
}

async function renew(url: string): Promise<void> {
  try {
    // What is not read to its end is not kept.
    await (await fetch(url, { cache: 'reload', signal: AbortSignal.timeout(LIMIT) })).arrayBuffer();
  } catch {} // it is gone: the page will see
}
