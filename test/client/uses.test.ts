import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isOwnFile, pathIn } from '../../client/uses.ts';

const urls: [string, string, string][] = [
  ['a full URL', 'http://localhost:8080/css/a.css?v=1#x', '/css/a.css'],
  ['a relative URL', 'img/b.png', '/docs/img/b.png'],
  ['what is encoded and what is not are the same', '/%7Ea%20b/é.css', '/~a b/é.css'],
  ['another origin with the same path', 'http://localhost:3000/a.css', '/a.css'],
  ['no URL', 'http://[', 'http://['],
  ['a stray percent sign', '/100%', '/100%'],
];

for (const [name, url, expected] of urls) {
  test(`pathIn() of ${name}`, () => assert.is(pathIn(url, 'http://localhost:8080/docs/'), expected));
}

const pages: [string, changed: string, path: string, file: string | undefined, expected: boolean][] = [
  ['the path itself', '/a.html', '/a.html', '/a.html', true],
  ['the index of the root', '/index.html', '/', undefined, true],
  ['the index of a folder', '/docs/index.html', '/docs/', undefined, true],
  ['the index of a folder without its slash', '/docs/index.html', '/docs', undefined, true],
  ['a clean URL', '/about.html', '/about', undefined, true],
  ['a clean URL that is missing so far', '/about.html', '/about', '/404.html', true],
  ['the file the server named', '/index.html', '/some/route', '/index.html', true],
  ['another page', '/b.html', '/a.html', '/a.html', false],
  ['another index', '/docs/index.html', '/', '/index.html', false],
  ['a neighbour of a page', '/docs/x.txt', '/docs/', '/docs/index.html', false],
  ['an entry of a list', '/docs/x.txt', '/docs/', undefined, true],
  ['an entry of a folder in a list', '/docs/more/x.txt', '/docs/', undefined, false],
];

for (const [name, changed, path, file, expected] of pages) {
  test(`isOwnFile(): ${name} is${expected ? '' : ' not'}`, () => {
    assert.is(isOwnFile(changed, path, file), expected);
  });
}

test.run();
