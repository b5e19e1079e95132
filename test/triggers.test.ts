import { request } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../src/index.ts';
import { folder, openStream, until, within } from './harness.ts';

interface Answered {
  readonly status: number | undefined;
  readonly text: string;
}

const json = { 'content-type': 'application/json' };

function post(url: string, body = '', headers: Record<string, string> = json): Promise<Answered> {
  const answer = new Promise<Answered>((resolve, reject) => {
    const req = request(url, { method: 'POST', agent: false, headers }, (res) => {
      let text = '';
      res.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      res.on('end', () => resolve({ status: res.statusCode, text }));
    });
    req.on('error', reject);
    req.end(body);
  });
  return within(`the answer to ${url}`, answer);
}

const taken: [type: string, body: string, event: string, data: string][] = [
  ['reload', '', 'reload', '{"paths":[]}'],
  ['reload', 'null', 'reload', '{"paths":[]}'],
  ['reload', '{}', 'reload', '{"paths":[]}'],
  ['reload', '{"paths":["/a.html","/b%20c.js"]}', 'reload', '{"paths":["/a.html","/b%20c.js"]}'],
  ['css', '{"paths":["/a.css","/b.css"]}', 'css', '{"paths":["/a.css","/b.css"]}'],
  ['failure', '"It broke"', 'failure', '{"message":"It broke"}'],
  [
    'failure',
    '{"message":"Broken","file":"src/a.js","line":3,"column":7}',
    'failure',
    '{"message":"Broken","file":"src/a.js","line":3,"column":7}',
  ],
  [
    'failure',
    `{"message":"In ${process.cwd()}/a.js","file":"${process.cwd()}/a.js"}`,
    'failure',
    '{"message":"In a.js","file":"a.js"}',
  ],
  ['clock', '{"time":1}', 'clock', '{"time":1}'],
  ['clock', '"10:00"', 'clock', '10:00'],
  ['clock', '', 'clock', 'null'],
];

for (const [type, body, event, data] of taken) {
  test(`POST /__events/${type} with ${body || 'nothing'} is that event on the wire`, async () => {
    using site = folder({});
    await using server = await start({ root: site.path, port: 0 });
    using stream = await openStream(`${server.url}__events`);
    await stream.next('hello');
    assert.equal(await post(`${server.url}__events/${type}`, body), { status: 200, text: '{"clients":1}\n' });
    assert.is((await stream.next(event)).data, data);
  });
}

test('POST /__events/reload needs neither a body nor a type', async () => {
  using site = folder({});
  await using server = await start({ root: site.path, port: 0 });
  assert.equal(await post(`${server.url}__events/reload`, '', {}), { status: 200, text: '{"clients":0}\n' });
});

test('POST /__events/failure with null says that it is mended', async () => {
  using site = folder({});
  await using server = await start({ root: site.path, port: 0 });
  await post(`${server.url}__events/failure`, '{"message":"Broken"}');
  using stream = await openStream(`${server.url}__events`);
  assert.is((await stream.next('failure')).data, '{"message":"Broken"}');
  await post(`${server.url}__events/failure`, 'null');
  assert.is((await stream.next('failure')).data, 'null');
});

const form = { 'content-type': 'application/x-www-form-urlencoded' };
const refused: [
  type: string,
  body: string,
  status: number,
  text: RegExp,
  headers?: Record<string, string>,
][] = [
  ['reload', '{', 400, /^The body is no JSON\n$/],
  ['reload', '[]', 400, /^Give the URL paths as \{"paths":\["\/page\.html"\]\}/],
  ['reload', '"/a.html"', 400, /^Give the URL paths as/],
  ['reload', '{"path":"/a.html"}', 400, /^Give the URL paths as/],
  ['reload', '{"paths":"/a.html"}', 400, /^Give the URL paths as/],
  ['reload', '{"paths":[1]}', 400, /^Give the URL paths as/],
  ['css', '{"paths":["a.css"]}', 400, /^Cannot reload "a\.css": give its URL path, like "\/a\.css"\n$/],
  ['failure', '', 200, /clients/],
  ['failure', '{}', 400, /^Say what failed as/],
  ['failure', '{"message":1}', 400, /^Say what failed as/],
  ['failure', '7', 400, /^Say what failed as/],
  ['hello', '{}', 400, /"hello": that type is live-sse's own/],
  ['ping', '{}', 400, /"ping": that type is live-sse's own/],
  ['error', '{}', 400, /"error"/],
  ['message', '{}', 400, /"message"/],
  [
    'clock',
    '{}',
    415,
    /^Send the body with Content-Type: application\/json/,
    { 'content-type': 'text/plain' },
  ],
  ['clock', '{}', 415, /^Send the body with/, form],
  ['clock', '', 415, /^Send the body with/, form],
  ['clock', '{}', 415, /^Say what the body is/, {}],
  ['clock', '{}', 415, /^Send the body with/, { 'content-type': 'application/jsonp' }],
  ['clock', JSON.stringify('x'.repeat(2 ** 20)), 413, /^Too large: a body may have 1048576 bytes\n$/],
  [
    'clock',
    JSON.stringify('x'.repeat(2 ** 20)),
    413,
    /^Too large/,
    { ...json, 'transfer-encoding': 'chunked' },
  ],
];

for (const [type, body, status, text, headers] of refused) {
  const name = `${body.slice(0, 30)} ${JSON.stringify(headers ?? '')}`;
  test(`POST /__events/${type} with ${name} is ${status}`, async () => {
    using site = folder({});
    await using server = await start({ root: site.path, port: 0 });
    const answer = await post(`${server.url}__events/${type}`, body, headers);
    assert.is(answer.status, status);
    assert.match(answer.text, text);
    assert.is(answer.text.split('\n').length, 2, 'one line');
  });
}

test('a POST that breaks off leaves the server as it was', async () => {
  using site = folder({});
  await using server = await start({ root: site.path, port: 0 });
  const url = `${server.url}__events/clock`;
  const req = request(url, { method: 'POST', agent: false, headers: { ...json, 'content-length': 9 } });
  req.on('error', () => {}); // it is cut on purpose
  req.write('{"a":');
  await until('the half body to be sent', () => req.socket?.bytesWritten);
  req.destroy();
  assert.is((await post(url, '1')).status, 200);
});

test.run();
