/**
 * PeerJS, on a page of another origin, uses the relay of the server as docs/turn.md says, with
 * PeerServer, and as docs/peerjs.md says, with -compat peerjs.
 */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {after, before, test} from 'node:test';
import {isRelayed, launch, recordConnections, skip} from '../lib/browser.js';
import {PeerServer} from '../lib/peerserver.js';
import {freePort, Server} from '../lib/server.js';

const library = readFileSync(new URL('../node_modules/peerjs/dist/peerjs.min.js', import.meta.url));
const peerServer = new PeerServer();

/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {import('node:http').Server} */
let site;
/** @type {Server} */
let server;
let siteOrigin = '';

before(async () => {
  if (skip) return;
  await peerServer.start();
  site = createServer((request, response) => {
    const script = request.url === '/peerjs.js';
    response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
    response.end(script ? library : sitePage(request.url === '/own'));
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const address = site.address();
  assert.ok(address && typeof address === 'object');
  siteOrigin = `http://localhost:${address.port}`;
  server = new Server(['-compat', 'peerjs', '-cors-origins', siteOrigin, '-turn-bind', `127.0.0.1:${await freePort()}`]);
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
  site?.close();
  await peerServer.stop();
});

/**
 * Returns the line of a document, with the origin of the server in place of that of the example.
 * @param {string} name
 */
function documentedLine(name) {
  const text = readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');
  const lines = [...text.matchAll(/^ {4}(.*new Peer\(.*config: .*)$/gm)].map(([, line]) => line);
  assert.equal(lines.length, 1, `lines of docs/${name} that create a Peer`);
  assert.ok(lines[0].includes("'https://example.org/ice'"), lines[0]);
  return lines[0].replace('https://example.org', server.origin);
}

/**
 * Returns a page whose Peer uses relays only, and the server itself or the PeerServer of the test. It
 * runs the line as it is.
 * @param {boolean} own
 */
function sitePage(own) {
  const local = own ? {host: 'localhost', port: Number(new URL(server.origin).port), secure: true} :
    {host: '127.0.0.1', port: peerServer.port, path: '/', secure: false};
  return `<!doctype html><title>another site</title><link rel="icon" href="data:,"><script src="/peerjs.js"></script>
<script>
  Peer = class extends peerjs.Peer {
    constructor(options) {
      super({...options, ...${JSON.stringify(local)}, config: {...options.config, iceTransportPolicy: 'relay'}});
    }
  };
</script>
<script type="module">
${documentedLine(own ? 'peerjs.md' : 'turn.md')}
globalThis.peer = peer;
</script>`;
}

/** Opens the site in a browser profile of its own. @param {string} path */
async function openSite(path) {
  const context = await browser.newContext({ignoreHTTPSErrors: true});
  await context.addInitScript(recordConnections);
  const page = await context.newPage();
  const answer = page.waitForResponse(`${server.origin}/ice`);
  await page.goto(siteOrigin + path);
  const {iceServers} = await (await answer).json();
  assert.match(JSON.stringify(iceServers), /"turn:localhost:\d+\?transport=udp"/);
  await page.waitForFunction(() => /** @type {any} */ (window).peer?.open);
  return page;
}

/** Runs in the page: answers the first message of the first connection. */
function answerFirst() {
  const win = /** @type {any} */ (window);
  win.peer.on('connection', (/** @type {any} */ connection) =>
    connection.on('data', (/** @type {any} */ data) => connection.send({answer: data})));
  return win.peer.id;
}

/** Runs in the page: returns the answer of another page to a message. @param {string} id */
function ask(id) {
  return new Promise((resolve, reject) => {
    const {peer} = /** @type {any} */ (window);
    peer.on('error', reject);
    const connection = peer.connect(id);
    connection.on('error', reject);
    connection.on('data', resolve);
    connection.on('open', () => connection.send('hello'));
    setTimeout(() => reject(new Error(`timeout: no answer, ICE is ${connection.peerConnection?.iceConnectionState}`)), 60_000);
  });
}

for (const [path, title] of [['/', 'PeerServer and the line of docs/turn.md'], ['/own', 'this server and the line of docs/peerjs.md']]) {
  test(`two pages exchange data through the relay with ${title}`, {skip}, async () => {
    const [alice, bob] = await Promise.all([openSite(path), openSite(path)]);
    assert.deepEqual(await bob.evaluate(ask, await alice.evaluate(answerFirst)), {answer: 'hello'});
    for (const page of [alice, bob]) assert.equal(await page.evaluate(isRelayed), true);
  });
}
