/** Serves pages with y-webrtc and Trystero, at an origin of their own. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

/** The strategy that docs/trystero.md shows, which a page of Trystero imports. @type {import('esbuild').Plugin} */
const documentedStrategy = {
  name: 'docs/trystero.md',
  setup({onResolve, onLoad}) {
    onResolve({filter: /^ws-relay-of-docs$/}, () => ({path: 'ws-relay.js', namespace: 'docs'}));
    onLoad({filter: /.*/, namespace: 'docs'}, () => ({contents: documentedCode(), resolveDir: fileURLToPath(new URL('.', import.meta.url))}));
  },
};

function documentedCode() {
  const text = readFileSync(new URL('../../../docs/trystero.md', import.meta.url), 'utf8');
  const blocks = [...text.matchAll(/^```js\n(\/\/ ws-relay\.js\n.*?)^```$/gms)].map(([, code]) => code);
  assert.equal(blocks.length, 1, 'strategies in docs/trystero.md');
  return blocks[0];
}

/** Returns the code of a page. @param {string} name */
async function bundle(name) {
  const {outputFiles} = await build({
    entryPoints: [fileURLToPath(new URL(`${name}-page.js`, import.meta.url))],
    bundle: true, write: false, format: 'iife', target: 'es2022', logLevel: 'error',
    define: {global: 'globalThis', 'process.env.NODE_ENV': '"production"'}, plugins: [documentedStrategy],
  });
  return outputFiles[0].text;
}

/** TopicsSite has a page /yjs and a page /trystero. */
export class TopicsSite {
  /** @type {import('node:http').Server | undefined} */
  #server;
  #port = 0;

  /** Returns the origin. Each host name, such as a.localhost, is another origin. */
  origin(host = 'localhost') {
    return `http://${host}:${this.#port}`;
  }

  async start() {
    /** @type {Record<string, string>} */
    const scripts = {'/yjs.js': await bundle('yjs'), '/trystero.js': await bundle('trystero')};
    this.#server = createServer((request, response) => {
      const script = scripts[request.url ?? ''];
      response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
      response.end(script ?? `<!doctype html><title>another site</title><link rel="icon" href="data:,"><script src="${request.url}.js"></script>`);
    }).listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    assert.ok(address && typeof address === 'object');
    this.#port = address.port;
  }

  stop() {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}
