// A page that a back end makes, after a change of templates: what its own URL gives now, and whether the change is shown
// with that. Fetched when a first template changes.

import type { Page } from './change.ts';
import { TOLD } from './uses.ts';

interface Known extends Pick<Page, 'base' | 'load'> {
  /** The source that the live document shows. */
  readonly old: string;
}

/** What the back end has failed at is over the page. */
let complained = false;

/**
 * The HTML that `url`, the page's own, gives now. `true`: there is nothing to be done with it. `false`: only a reload is
 * sure to be right.
 */
export async function readAgain(url: string, { base, old, load }: Known): Promise<string | boolean> {
  // That gives another page.
  if (isMoved(url)) return false;
  const response = await fetch(url, { headers: { Accept: 'text/html' }, cache: 'no-store' });
  if (response.redirected) return false;
  const overlay = () => load<typeof import('./overlay.ts')>('overlay');
  if (complained) (await overlay()).hideFailure();
  complained = !response.ok && window === top && isDead(response);
  if (complained) {
    const output = await textOf(response);
    (await overlay()).showFailure({ message: `${response.status} ${response.statusText}`, output });
    return true;
  }
  if (!response.ok || !isHtml(response)) return false;
  const next = await response.text();
  // If it is the same, the template is of another page, or of a part that a script of this one has fetched.
  return next === old ? !hasFetched(base, url) : next;
}

/** Has a script moved the page to another address than the one it came from? */
export function isMoved(url = location.href): boolean {
  const [navigation] = performance.getEntriesByType('navigation');
  return bare(navigation?.name ?? '') !== bare(url);
}

function bare(address: string): string {
  return address.replace(/#.*/, '');
}

function isHtml({ headers }: Response): boolean {
  return /^text\/html/.test(headers.get('content-type') ?? '');
}

/** Is it an error page that would not hear of it when the error is mended? Express sends its own with such a policy. */
export function isDead(response: Response): boolean {
  const policy = response.headers.get('content-security-policy') ?? '';
  return !isHtml(response) || (/default-src 'none'/.test(policy) && !policy.includes('script-src'));
}

async function textOf(response: Response): Promise<string> {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours of a terminal
  const text = (await response.text()).replace(/\x1b\[[\d;]*m/g, '');
  if (!isHtml(response)) return text;
  const page = new DOMParser().parseFromString(text.replace(/<br>/g, '\n'), 'text/html');
  return (page.body.textContent ?? '').trim();
}

/** Has a script of the page, other than ours, fetched something? */
function hasFetched(base: string, url: string): boolean {
  const entries = performance.getEntriesByType('resource');
  const isOurs = (name: string) =>
    name.startsWith(`${base}/`) || name === bare(url) || /[?&]live-sse=/.test(name);
  return (
    entries.length >= TOLD ||
    entries.some(({ name, initiatorType }: Partial<PerformanceResourceTiming>) => {
      return /^(fetch|xmlhttprequest)$/.test(initiatorType ?? '') && !isOurs(name ?? '');
    })
  );
}
