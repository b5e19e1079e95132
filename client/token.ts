// The token of a change, as the last part of an address's query: what has another is fetched again.

/** A text with addresses as they were before anything was fetched again. */
export function withoutTokens(text: string): string {
  return text.replace(/[?&]live-sse=[\w-]*/g, '');
}

/** The URL with the token, in place of the one of an earlier change. */
export function withToken(url: string, token: string): string {
  const bare = withoutTokens(url);
  return bare.replace(/#|$/, `${/^[^#]*\?/.test(bare) ? '&' : '?'}live-sse=${token}$&`);
}
