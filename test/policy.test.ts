import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readPolicy } from '../src/policy.ts';

const self = "'self' in its script-src";
const nonce = "a nonce ('nonce-…') in its script-src";
const policies: [header: string | string[] | undefined, expected: { nonce?: string; missing?: string }][] = [
  [undefined, {}],
  ['', {}],
  ["img-src 'none'; connect-src 'none'", {}],
  ["default-src 'self'", {}],
  ["script-src 'self' https://cdn.example", {}],
  ['script-src *', {}],
  ['script-src http:', {}],
  ['script-src http://localhost:8080', {}],
  ['script-src LOCALHOST:*', {}],
  ["default-src 'none'; script-src 'self'", {}],
  ["SCRIPT-SRC 'none'; script-src-elem 'SELF'", {}],
  ["script-src 'nonce-r4nd0m+/='", { nonce: 'r4nd0m+/=' }],
  ["default-src 'none'; script-src 'NONCE-a-_' 'strict-dynamic'", { nonce: 'a-_' }],
  [["script-src 'self' 'nonce-a'", "script-src 'nonce-a'"], { nonce: 'a' }],
  ["script-src 'self'; script-src 'none'", {}],
  ["script-src 'none'", { missing: self }],
  ['script-src', { missing: self }],
  ["default-src 'none'", { missing: self }],
  ["script-src 'sha256-abc='", { missing: self }],
  ["script-src 'unsafe-inline' https://cdn.example", { missing: self }],
  ['script-src http://localhost:9090', { missing: self }],
  ["script-src 'self' 'sha256-abc=' 'strict-dynamic'", { missing: nonce }],
  ["script-src 'nonce-a', default-src 'none'", { nonce: 'a', missing: self }],
  ["script-src 'nonce-\"><script>'", { missing: self }],
];

for (const [header, expected] of policies) {
  test(`readPolicy() of ${header}`, () => assert.equal(readPolicy(header, 'localhost:8080'), expected));
}

test.run();
