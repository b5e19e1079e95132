// A line along the edge of the page: why it is still the one before.

let bar: HTMLElement | undefined;

/** Says what is wrong with the new page, in place of what was said before; nothing, if nothing is. */
export function showBar(problem: string): void {
  bar?.remove();
  if (!problem) return;
  bar = document.createElement('live-sse-bar');
  bar.role = 'status';
  // Not by an attribute: a policy may forbid those.
  bar.style.cssText =
    'all:initial;position:fixed;inset:auto 0 0;z-index:2147483647;padding:8px;background:#b21;color:#fff;font:14px system-ui';
  bar.attachShadow({
    mode: 'open',
  }).textContent = `The new page ${problem}. It is shown once that is mended.`;
  document.documentElement.append(bar);
}
