// The answers that are the server's own: not found, a folder's listing, an error, a redirect. First the HTML, pure; then how
// they are sent.
// They work without script. Every name is data: escaped for text and for attributes, and every link starts with `/` or `./`.

import { createHash } from 'node:crypto';
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Entry } from './resolve.ts';

const STYLE = `:root{color-scheme:light dark;--soft:light-dark(#667,#99a);--line:light-dark(#e4e4ea,#2c2c34);--link:light-dark(#1d4ed8,#8ab4ff)}
body{max-width:46rem;margin:12vh auto 4rem;padding:0 1.5rem;font:1rem/1.6 system-ui,sans-serif;color:light-dark(#1c1c22,#e6e6ea);background:light-dark(#fff,#16161a)}
h1{margin:0 0 .5rem;font-size:1.5rem;line-height:1.3;overflow-wrap:anywhere}
p{margin:.5rem 0}p,time,td{color:var(--soft)}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}ul{padding-left:1.2rem}
table{width:100%;margin-top:1.5rem;border-collapse:collapse}td,th{padding:.35rem .75rem .35rem 0;border-top:1px solid var(--line);text-align:left;font-weight:400}
th{overflow-wrap:anywhere}td{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;font-size:.9rem}`;

/** Content-Type of these pages. */
export const PAGE_TYPE = 'text/html; charset=utf-8';

/**
 * Headers of these pages. The policy lets in their own style and what the client script needs of this server, and nothing
 * else: neither a file name nor anything in a request could start a script even if it were not escaped.
 */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': PAGE_TYPE,
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "worker-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; '),
  'Referrer-Policy': 'same-origin',
};

/** Text as HTML shows it, between tags and in both kinds of attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Text without the characters that steer a terminal or turn text around: they are shown as escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;
  });
}

/** Nothing is at this path (decoded); `near` are URL paths of what may have been meant. */
export function notFoundPage(path: string, near: readonly string[]): Buffer {
  const links = near.map((url) => `<li><a href="${escapeHtml(url)}">${escapeHtml(readable(url))}</a></li>`);
  const meant = links.length > 0 ? `<p>Did you mean</p><ul>${links.join('')}</ul>` : '';
  return page(
    'Not found',
    `<h1>Nothing here yet</h1><p>No file for <code>${shown(path)}</code>. This page reloads when there is one.</p>${meant}<p><a href="/">Start page</a></p>`,
  );
}

/** A folder's entries, in the order given; `path` is the decoded URL path of the folder, `/` the root. */
export function listingPage(path: string, entries: readonly Entry[]): Buffer {
  const isRoot = path === '/';
  const start = isRoot
    ? '<p>There is no <code>index.html</code> in this folder yet. Save one, and it is shown here.</p>'
    : '';
  const parent = isRoot ? '' : '<tr><th><a href="../">../</a></th><td></td><td></td></tr>';
  return page(
    isRoot ? 'Files' : path,
    `<h1>${isRoot ? 'Files' : shown(path)}</h1>${start}<table>${parent}${entries.map(row).join('')}</table>`,
  );
}

/** A status and a sentence of our own. */
export function errorPage(title: string, text: string): Buffer {
  return page(title, `<h1>${escapeHtml(title)}</h1><p>${escapeHtml(text)}</p>`);
}

function row({ name, folder, size, modified }: Entry): string {
  const mark = folder ? '/' : '';
  // The dot keeps a file called `javascript:…` a file.
  const link = `<a href="./${encodeURIComponent(name.toWellFormed())}${mark}">${shown(name)}${mark}</a>`;
  // Local time, as it is in the file manager next to it; a disk may hold dates that are none.
  const date = Number.isNaN(modified.getTime()) ? '' : modified.toLocaleString('sv').slice(0, 16);
  const time = `<time>${date}</time>`;
  return `<tr><th>${link}</th><td>${folder ? '' : bytes(size)}</td><td>${time}</td></tr>`;
}

/** A number of bytes for people: `0 B`, `1.5 kB`, `12 MB`. */
export function bytes(size: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = size < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(size) / 3));
  const value = size / 1000 ** power;
  return `${power === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

function shown(text: string): string {
  return escapeHtml(printable(text));
}

function readable(url: string): string {
  try {
    return printable(decodeURI(url));
  } catch {
    return url; // a name that is no text stays encoded
  }
}

function page(title: string, body: string): Buffer {
  return Buffer.from(
    `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${shown(title)}</title>
<style>${STYLE}</style>
</head>
<body>
${body}
</body>
</html>
`,
  );
}

/** Sets headers that a middleware or the user has not set before. */
export function preset(res: ServerResponse, headers: Readonly<Record<string, string | number>>): void {
  for (const [name, value] of Object.entries(headers)) {
    if (!res.hasHeader(name)) res.setHeader(name, value);
  }
}

// A stylesheet or an image that is missing is no page: browsers would speak of its type instead of what is wrong.
const PART = /^(?!(document|i?frame|embed|object|empty)$)/;

/** Answers with a page of ours. Its policy is its own: a header of the user is for the site. */
export function sendPage(req: IncomingMessage, res: ServerResponse, status: number, page: Buffer): void {
  const { 'sec-fetch-dest': destination } = req.headers;
  if (typeof destination === 'string' && PART.test(destination)) {
    sendText(req, res, status);
    return;
  }
  for (const [name, value] of Object.entries(PAGE_HEADERS)) res.setHeader(name, value);
  preset(res, { 'Cache-Control': 'no-cache' });
  res.setHeader('Content-Length', page.length);
  res.statusCode = status;
  res.end(req.method === 'HEAD' ? undefined : page);
}

function sendText(req: IncomingMessage, res: ServerResponse, status: number): void {
  const text = `${STATUS_CODES[status]}\n`;
  preset(res, { 'Cache-Control': 'no-cache' });
  res.setHeader('Content-Type', 'text/plain; charset=utf-8');
  res.setHeader('Content-Length', text.length);
  res.statusCode = status;
  res.end(req.method === 'HEAD' ? undefined : text);
}

/** Answers with a redirect to this path. */
export function redirect(req: IncomingMessage, res: ServerResponse, location: string): void {
  const body = `Redirecting to ${location}\n`;
  // A permanent redirect that is kept would outlive the folder.
  preset(res, { 'Cache-Control': 'no-store', 'Content-Type': 'text/plain; charset=utf-8' });
  res.setHeader('Location', location);
  res.setHeader('Content-Length', Buffer.byteLength(body));
  res.statusCode = 301;
  res.end(req.method === 'HEAD' ? undefined : body);
}
