import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { withToken } from '../../client/token.ts';

const urls: [string, string, string][] = [
  ['a plain URL', 'a.css', 'a.css?live-sse=b-2'],
  ['a query', 'a.css?v=1', 'a.css?v=1&live-sse=b-2'],
  ['the token of an earlier change', 'a.css?live-sse=b-1', 'a.css?live-sse=b-2'],
  ['a query and an earlier token', 'a.css?v=1&live-sse=b-1', 'a.css?v=1&live-sse=b-2'],
  ['a fragment', 'a.css#x?y', 'a.css?live-sse=b-2#x?y'],
  ['a query that is kept as it is written', 'a.css?a+b&c', 'a.css?a+b&c&live-sse=b-2'],
];

for (const [name, url, expected] of urls) {
  test(`withToken() of ${name}`, () => assert.is(withToken(url, 'b-2'), expected));
}

test.run();
