import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { answerTo, decide, parseRange, type Verdict } from '../src/conditional.ts';

const part = (first: number, last: number): Verdict => ({ status: 206, first, last });
const whole: Verdict = { status: 200 };
const beyond: Verdict = { status: 416 };

const ranges: [name: string, header: string, expected: Verdict, size?: number][] = [
  ['the first byte', 'bytes=0-0', part(0, 0)],
  ['two bytes, as Safari asks before a video', 'bytes=0-1', part(0, 1)],
  ['from the middle', 'bytes=3-5', part(3, 5)],
  ['to the end', 'bytes=7-', part(7, 9)],
  ['an end beyond the end', 'bytes=8-99', part(8, 9)],
  ['the last three', 'bytes=-3', part(7, 9)],
  ['more of the last than there is', 'bytes=-99', part(0, 9)],
  ['the last none', 'bytes=-0', beyond],
  ['a start at the end', 'bytes=10-', beyond],
  ['a start beyond the end', 'bytes=99-100', beyond],
  ['a number beyond all numbers', `bytes=${'9'.repeat(400)}-`, beyond],
  ['an end beyond all numbers', `bytes=1-${'9'.repeat(400)}`, part(1, 9)],
  ['reversed', 'bytes=5-2', whole],
  ['two apart', 'bytes=0-1,4-5', whole],
  ['two that touch', 'bytes=0-1,2-3', part(0, 3)],
  ['two in each other, in the other order', 'bytes=4-5, 1-8', part(1, 8)],
  ['one of two beyond the end', 'bytes=2-3,50-60', part(2, 3)],
  ['two beyond the end', 'bytes=20-30,50-60', beyond],
  ['one of two reversed', 'bytes=0-1,5-2', whole],
  ['a thousand', `bytes=${Array.from({ length: 1000 }, (_, i) => `${i % 9}-`).join(',')}`, part(0, 9)],
  ['no numbers', 'bytes=-', whole],
  ['nothing', 'bytes=', whole],
  ['commas', 'bytes=,,', whole],
  ['words', 'bytes=a-b', whole],
  ['a sign', 'bytes=+1-2', whole],
  ['a hexadecimal number', 'bytes=0x1-2', whole],
  ['no unit', '0-1', whole],
  ['another unit', 'items=0-1', whole],
  ['the unit in capitals', 'BYTES=0-1', part(0, 1)],
  ['any of an empty file', 'bytes=0-', beyond, 0],
  ['the last of an empty file', 'bytes=-1', beyond, 0],
];

for (const [name, header, expected, size = 10] of ranges) {
  test(`parseRange() of ${name}`, () => assert.equal(parseRange(header, size), expected));
}

const modified = Date.parse('Sat, 21 Nov 2026 03:00:00 GMT');
const then = 'Sat, 21 Nov 2026 03:00:00 GMT';
const before = 'Sat, 21 Nov 2026 02:59:59 GMT';
const after = 'Sat, 21 Nov 2026 03:00:01 GMT';

const conditions: [name: string, headers: Record<string, string>, status: Verdict['status']][] = [
  ['no condition', {}, 200],
  ['the same tag', { 'if-none-match': '"a"' }, 304],
  ['the same tag made weak by a proxy', { 'if-none-match': 'W/"a"' }, 304],
  ['the tag in a list', { 'if-none-match': '"x", W/"y,z" ,"a"' }, 304],
  ['any tag', { 'if-none-match': '*' }, 304],
  ['another tag', { 'if-none-match': '"b"' }, 200],
  ['a tag without quotes', { 'if-none-match': 'a' }, 200],
  ['another tag, though the date is the same', { 'if-none-match': '"b"', 'if-modified-since': then }, 200],
  ['the same date', { 'if-modified-since': then }, 304],
  ['a later date', { 'if-modified-since': after }, 304],
  ['an earlier date', { 'if-modified-since': before }, 200],
  ['no date', { 'if-modified-since': 'yesterday' }, 200],
  ['a reload of everything', { 'if-none-match': '"a"', 'cache-control': 'no-cache' }, 200],
  ['another directive', { 'if-none-match': '"a"', 'cache-control': 'max-age=0' }, 304],
  ['If-Match of the tag', { 'if-match': '"b", "a"' }, 200],
  ['If-Match of any', { 'if-match': '*' }, 200],
  ['If-Match of another', { 'if-match': '"b"' }, 412],
  ['If-Match of a weak tag, compared strongly', { 'if-match': 'W/"a"' }, 412],
  ['If-Unmodified-Since of the date', { 'if-unmodified-since': then }, 200],
  ['If-Unmodified-Since of an earlier date', { 'if-unmodified-since': before }, 412],
  ['a range', { range: 'bytes=0-1' }, 206],
  ['a range of something it has', { range: 'bytes=0-1', 'if-none-match': '"a"' }, 304],
  ['If-Range of the tag', { range: 'bytes=0-1', 'if-range': '"a"' }, 206],
  ['If-Range of another tag', { range: 'bytes=0-1', 'if-range': '"b"' }, 200],
  ['If-Range of a weak tag', { range: 'bytes=0-1', 'if-range': 'W/"a"' }, 200],
  ['If-Range of the date', { range: 'bytes=0-1', 'if-range': then }, 206],
  ['If-Range of a later date', { range: 'bytes=0-1', 'if-range': after }, 200],
  ['If-Range of no date', { range: 'bytes=0-1', 'if-range': 'x' }, 200],
  ['If-Range before a range beyond the end', { range: 'bytes=99-', 'if-range': '"b"' }, 200],
];

for (const [name, headers, status] of conditions) {
  test(`decide() with ${name} is ${status}`, () => {
    assert.is(decide('GET', headers, { size: 10, etag: '"a"', modified }).status, status);
  });
}

test('decide() without validators takes no condition for fulfilled', () => {
  const headers = [{ 'if-none-match': '*' }, { 'if-modified-since': after }];
  for (const given of headers) assert.is(decide('GET', given, { size: 10 }).status, 200);
  assert.is(decide('GET', { range: 'bytes=0-1', 'if-range': '"a"' }, { size: 10 }).status, 200);
});

test('decide() of HEAD knows conditions but no ranges', () => {
  const validators = { size: 10, etag: '"a"', modified };
  assert.equal(decide('HEAD', { range: 'bytes=0-1' }, validators), { status: 200 });
  assert.equal(decide('HEAD', { 'if-none-match': '"a"' }, validators), { status: 304 });
});

const validators = { etag: '"a"', modified, isProof: true };
const file = { status: 200, size: 10, cacheControl: 'no-cache', validators } as const;

test('answerTo() a whole file', () => {
  assert.equal(answerTo('GET', {}, file), {
    status: 200,
    first: 0,
    last: 9,
    hasBody: true,
    headers: {
      'Cache-Control': 'no-cache',
      ETag: '"a"',
      'Last-Modified': then,
      'Accept-Ranges': 'bytes',
      'Content-Length': 10,
    },
  });
});

test('answerTo() a part has its place', () => {
  const { status, headers } = answerTo('GET', { range: 'bytes=2-4' }, file);
  assert.is(status, 206);
  assert.is(headers['Content-Range'], 'bytes 2-4/10');
  assert.is(headers['Content-Length'], 3);
});

test('answerTo() a part beyond the end says how long the file is and has no body', () => {
  const { status, headers, hasBody } = answerTo('GET', { range: 'bytes=10-' }, file);
  assert.is(status, 416);
  assert.is(headers['Content-Range'], 'bytes */10');
  assert.is(headers['Content-Length'], 0);
  assert.not(hasBody);
});

test('answerTo() an error has no parts, no validators and no conditions', () => {
  const headers = { range: 'bytes=0-1', 'if-none-match': '*' };
  const answer = answerTo('GET', headers, { status: 404, size: 10, cacheControl: 'no-cache' });
  assert.is(answer.status, 404);
  assert.equal(answer.headers, { 'Cache-Control': 'no-cache', 'Content-Length': 10 });
});

test('answerTo() a date that is no proof is shown but not believed', () => {
  const doubtful = { ...file, validators: { ...validators, isProof: false } };
  const answer = answerTo('GET', { 'if-modified-since': then }, doubtful);
  assert.is(answer.status, 200);
  assert.is(answer.headers['Last-Modified'], then);
});

test.run();
