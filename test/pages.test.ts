import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  bytes,
  errorPage,
  escapeHtml,
  listingPage,
  notFoundPage,
  PAGE_HEADERS,
  printable,
} from '../src/pages.ts';

const entry = (name: string, folder = false) => ({ name, folder, size: 1, modified: new Date(0) });
const hostile = `"><img src=x onerror=alert(1)>'\`&`;

test('escapeHtml() is safe in text and in both kinds of attribute', () => {
  assert.not.match(escapeHtml(hostile), /[<>"'`]|&(?!#\d+;)/);
});

test('printable() shows what would steer a terminal or turn text around', () => {
  assert.is(
    printable('a\x1b[31m\x07\x9b\x7f\u202e\u2028é ok'),
    'a\\u001b[31m\\u0007\\u009b\\u007f\\u202e\\u2028é ok',
  );
});

test('notFoundPage() shows the path and the near names as text', () => {
  const html = notFoundPage(`/${hostile}`, [`/x?${hostile}`, '/caf%C3%A9.html']).toString();
  assert.not.match(html, /<img|onerror=alert\(1\)>/);
  assert.match(html, '<a href="/caf%C3%A9.html">/café.html</a>');
});

test('notFoundPage() of a name that is no text is a page', () => {
  assert.match(notFoundPage('/x', ['/%ff']).toString(), '<a href="/%ff">/%ff</a>');
});

test('listingPage() links start with a dot, so that no name is a scheme or a host', () => {
  const names = ['javascript:alert(1)', '//evil.example', '100% #1?.txt', hostile];
  const html = listingPage(
    '/docs/',
    names.map((name) => entry(name)),
  ).toString();
  const links = [...html.matchAll(/href="([^"]*)"/g)].map(([, href]) => href);
  assert.is(links.length, 5);
  assert.ok(links.every((href) => href?.startsWith('./') || href === '../'));
  assert.ok(links.includes('./100%25%20%231%3F.txt'));
  assert.not.match(html, '<img');
});

test('listingPage() of the root says how to start and has no parent', () => {
  const html = listingPage('/', [entry('a', true)]).toString();
  assert.match(html, 'index.html');
  assert.not.match(html, 'href="../"');
  assert.match(html, 'href="./a/"');
});

test('listingPage() of a date that is none is a page', () => {
  const html = listingPage('/', [{ ...entry('a'), modified: new Date(Number.NaN) }]).toString();
  assert.match(html, '<time></time>');
});

test('errorPage() escapes', () => assert.not.match(errorPage(hostile, hostile).toString(), '<img'));

test('PAGE_HEADERS let in scripts of this server and the style of the page, nothing inline', () => {
  const policy = PAGE_HEADERS['Content-Security-Policy'] ?? '';
  assert.match(policy, "default-src 'none'");
  assert.match(policy, "script-src 'self'");
  assert.not.match(policy, 'unsafe');
});

const sizes: [number, string][] = [
  [0, '0 B'],
  [999, '999 B'],
  [1500, '1.5 kB'],
  [12_000_000, '12 MB'],
  [3e15, '3000 TB'],
];
for (const [size, expected] of sizes) test(`bytes() of ${size}`, () => assert.is(bytes(size), expected));

test.run();
