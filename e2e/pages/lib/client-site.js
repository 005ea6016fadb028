/**
 * A project that has installed the npm package inbox-client, and a site of it: pages of another
 * origin than the server, which use the package in different ways.
 */

import {execFileSync} from 'node:child_process';
import {once} from 'node:events';
import {mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

const checkout = fileURLToPath(new URL('../../..', import.meta.url));

/** The modules that have what the scenes use. */
const names = `const names = ['connect', 'stream-inbox', 'channel-call', 'watched-peer', 'seal'];`;

/** What a page of each kind does to get the client as window.client. */
const loaders = {
  /** The modules of the server. @param {string} server */
  server: server => `<script type="module">
    ${names}
    window.client = Object.assign({}, ...await Promise.all(names.map(name => import('${server}/client/1/' + name + '.js'))));
  </script>`,
  /** A bundle of the package. */
  bundle: () => '<script type="module" src="/bundle/app.js"></script>',
  /** The modules of the package as they are. */
  modules: () => `<script type="module">
    ${names}
    window.client = Object.assign({}, ...await Promise.all(names.map(name => import('/package/' + name + '.js'))));
  </script>`,
  /** The classic script of the package. */
  script: () => '<script src="/package/global.js"></script><script>window.client = InboxClient</script>',
};

/** @typedef {keyof typeof loaders} Loader */

export class ClientSite {
  /** The directory of the project. */
  directory = mkdtempSync(join(tmpdir(), 'inbox-client-'));
  /** The files of the site. @type {Map<string, Buffer | string>} */
  #files = new Map();
  #server = createServer((request, response) => this.#respond(request.url ?? '', response));
  origin = '';

  /** The installed package. */
  get package() {
    return join(this.directory, 'node_modules', 'inbox-client');
  }

  /** Builds, packs and installs the package, in a project without anything else. */
  install() {
    execFileSync(join(checkout, 'scripts', 'npm-package'), [this.directory], {stdio: ['ignore', 'ignore', 'inherit']});
    const [tarball] = readdirSync(this.directory).filter(name => name.endsWith('.tgz'));
    this.write('package.json', JSON.stringify({name: 'empty', private: true, type: 'module'}));
    execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', '--cache', join(this.directory, 'cache'), `./${tarball}`], {cwd: this.directory, stdio: ['ignore', 'ignore', 'inherit']});
  }

  /** @param {string} name @param {string} text */
  write(name, text) {
    writeFileSync(join(this.directory, name), text);
  }

  async start() {
    this.write('app.js', `import * as client from 'inbox-client';
      import {StreamInbox} from 'inbox-client/streams';
      import {ChannelCall} from 'inbox-client/channels';
      import {WatchedPeer} from 'inbox-client/paths';
      import {Sealer} from 'inbox-client/seal';
      window.client = {...client, StreamInbox, ChannelCall, WatchedPeer, Sealer};`);
    await this.bundle('app.js');
    for (const name of readdirSync(this.package)) this.#files.set(`/package/${name}`, readFileSync(join(this.package, name)));
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    this.origin = `http://localhost:${address && typeof address === 'object' ? address.port : 0}`;
  }

  /** Bundles a module of the project, as /bundle/name. @param {string} name */
  async bundle(name) {
    const {outputFiles} = await build({
      absWorkingDir: this.directory, entryPoints: [name], bundle: true, format: 'esm', minify: true, write: false, outdir: 'bundle',
    });
    for (const {path, contents} of outputFiles) this.#files.set(`/bundle/${path.split('/').pop()}`, Buffer.from(contents));
  }

  /** The examples of the README. */
  get examples() {
    return [...readFileSync(join(this.package, 'README.md'), 'utf8').matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);
  }

  /**
   * Returns the address of a page.
   * @param {Loader} loader
   * @param {string} server its origin
   */
  page(loader, server) {
    return `${this.origin}/?${new URLSearchParams({loader, server})}`;
  }

  /**
   * @param {string} path
   * @param {import('node:http').ServerResponse} response
   */
  #respond(path, response) {
    const {pathname, searchParams} = new URL(path, 'http://localhost');
    const file = this.#files.get(pathname);
    response.setHeader('Content-Type', file ? 'text/javascript' : 'text/html');
    const loader = loaders[/** @type {Loader} */ (searchParams.get('loader'))];
    response.end(file ?? `<!doctype html><title>a page of the package</title><link rel="icon" href="data:,">${loader(searchParams.get('server') ?? '')}`);
  }

  remove() {
    this.#server.close();
    this.#server.closeAllConnections();
    rmSync(this.directory, {recursive: true, force: true});
  }
}
