// A Content-Security-Policy → what it means for the client script: the nonce it needs, or what has to be allowed. Pure.

import type { OutgoingHttpHeader } from 'node:http';

/** The sources for scripts of each policy that restricts them: https://www.w3.org/TR/CSP3/#script-src-elem */
function scriptSources(header: OutgoingHttpHeader | undefined): (readonly string[])[] {
  const policies = [header ?? []].flat().join(',').split(',');
  return policies.flatMap((policy) => {
    const directives = policy.split(';').map((directive) => directive.trim().split(/\s+/));
    const effective = ['script-src-elem', 'script-src', 'default-src'].flatMap((name) =>
      directives.filter((directive) => directive[0]?.toLowerCase() === name).slice(0, 1),
    )[0];
    return effective ? [effective.slice(1)] : [];
  });
}

const nonceOf = (source: string) => /^'nonce-([\w+/-]+={0,2})'$/i.exec(source)?.[1];
const isStrict = (sources: readonly string[]) =>
  sources.some((one) => one.toLowerCase() === "'strict-dynamic'");

function isOwnOrigin(source: string, host: string): boolean {
  if (/^(?:'self'|\*|https?:)$/i.test(source)) return true;
  const name = /^(?:https?:\/\/)?([^/']+)/i.exec(source)?.[1]?.toLowerCase();
  return name === host.toLowerCase() || name === host.toLowerCase().replace(/:\d+$|$/, ':*');
}

/**
 * Reads a response's Content-Security-Policy header: the nonce to copy into the tag, and what has to be allowed in
 * addition if the policy blocks the client script; nothing if it doesn't.
 *
 * @param host The request's Host, for a policy that names the server instead of `'self'`.
 */
export function readPolicy(
  header: OutgoingHttpHeader | undefined,
  host = '',
): { readonly nonce?: string; readonly missing?: string } {
  const policies = scriptSources(header);
  const nonce = policies.flat().map(nonceOf).find(Boolean);
  const blocking = policies.find((sources) => {
    if (nonce !== undefined && sources.some((source) => nonceOf(source) === nonce)) return false;
    return isStrict(sources) || !sources.some((source) => isOwnOrigin(source, host));
  });
  const missing = blocking && (isStrict(blocking) ? "a nonce ('nonce-…')" : "'self'");
  return { ...(nonce && { nonce }), ...(missing && { missing: `${missing} in its script-src` }) };
}

/** The line for the terminal when a policy blocks the client; `missing` is from `readPolicy()`. */
export function policyNotice(url: string | undefined, missing: string): string {
  return `The Content-Security-Policy of ${JSON.stringify(url)} blocks the client: allow ${missing}`;
}
