// A clock for any number of pages: node server.js [port] [another origin that may listen]
import { createServer } from 'node:http';
import { createChannel } from 'live-sse/sse';
import sirv from 'sirv';

const [port = '3000', ...cors] = process.argv.slice(2);
const channel = createChannel({ retry: 1000, cors });
const files = sirv(import.meta.dirname);
const server = createServer((req, res) =>
  req.url.startsWith('/events') ? channel.connect(req, res) : files(req, res),
);
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));

channel.on('connect', (client) => client.send(undefined, '这是消息'));
for (const event of ['connect', 'disconnect']) channel.on(event, () => console.log(`${channel.clients} consumers`));
setInterval(() => channel.send('time', new Date().toLocaleTimeString('en')), 2000);
process.once('SIGINT', async () => {
  channel.send('close', '再见'); // pages that know this event close their end; others would come back
  await channel.close();
  process.exit();
});
