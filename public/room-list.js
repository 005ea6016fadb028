/** The remembered rooms on the start page. */

import {button, create, isolate} from './dom.js';
import {MAX_NAME_LENGTH, linkOf, rememberedRooms, watchRooms} from './remember.js';
import * as strings from './strings.js';

const texts = strings.home;

/** @typedef {import('./remember.js').RememberedRoom} RememberedRoom */

/** RoomList fills a section, which is hidden while there is no room. */
export class RoomList {
  #section;
  #list;
  #status;
  /** The room whose name is being changed. */
  #renaming = '';

  /** @param {HTMLElement} section with the elements .room-list and .room-status */
  constructor(section) {
    this.#section = section;
    this.#list = /** @type {HTMLElement} */ (section.querySelector('.room-list'));
    this.#status = /** @type {HTMLElement} */ (section.querySelector('.room-status'));
    watchRooms(() => this.#render());
    this.#render();
  }

  #render() {
    const rooms = rememberedRooms.list();
    this.#section.hidden = rooms.length === 0 && this.#status.childElementCount === 0;
    this.#list.replaceChildren(...rooms.map(room => room.id === this.#renaming ? this.#editor(room) : this.#item(room)));
  }

  /** @param {RememberedRoom} room */
  #item(room) {
    const name = nameOf(room);
    const link = create('a', {class: 'room-link', href: linkOf(room)},
      create('span', {class: 'room-name'}, create('bdi', {}, name)),
      create('span', {class: 'room-used'}, texts.lastUsed({date: formatDate(room.used)})));
    link.addEventListener('click', () => rememberedRooms.update(room.id, {used: Date.now()}));
    return create('li', {class: 'room'}, link,
      button(texts.rename, () => this.#rename(room), {'class': 'button button-quiet room-action', 'aria-label': texts.renameRoom({name})}),
      button(texts.forget, () => this.#forget(room), {'class': 'button button-quiet room-action', 'aria-label': texts.forgetRoom({name})}));
  }

  /** @param {RememberedRoom} room */
  #editor(room) {
    const field = create('input', {'class': 'remember-name', 'type': 'text', 'dir': 'auto', 'maxlength': MAX_NAME_LENGTH, 'autocomplete': 'off', 'value': room.name, 'aria-label': strings.share.roomName});
    const form = create('form', {class: 'room-editor'}, field, create('button', {type: 'submit', class: 'button button-quiet'}, texts.save));
    const close = (/** @type {string | null} */ name) => {
      if (this.#renaming !== room.id) return;
      this.#renaming = '';
      if (name !== null) rememberedRooms.update(room.id, {name});
      this.#render();
      this.#focus(room.id);
    };
    form.addEventListener('submit', event => {
      event.preventDefault();
      close(field.value);
    });
    field.addEventListener('keydown', event => event.key === 'Escape' && close(null));
    return create('li', {class: 'room'}, form);
  }

  /** @param {RememberedRoom} room */
  #rename({id}) {
    this.#renaming = id;
    this.#render();
    const field = /** @type {HTMLInputElement | null} */ (this.#list.querySelector('.remember-name'));
    field?.focus();
    field?.select();
  }

  /** @param {string} id */
  #focus(id) {
    const index = rememberedRooms.list().findIndex(room => room.id === id);
    /** @type {HTMLElement | undefined} */ (this.#list.querySelectorAll('a')[index])?.focus();
  }

  /** @param {RememberedRoom} room */
  #forget(room) {
    rememberedRooms.forget(room.id);
    const undo = button(texts.undo, () => this.#restore(room));
    this.#status.replaceChildren(create('span', {}, texts.forgotten({name: isolate(nameOf(room))})), ' ', undo);
    this.#render();
    undo.focus();
  }

  /** @param {RememberedRoom} room */
  #restore(room) {
    rememberedRooms.remember(room);
    this.#status.replaceChildren();
    this.#render();
    this.#focus(room.id);
  }
}

/** @param {RememberedRoom} room */
function nameOf({name, page}) {
  return name || texts.unnamed[page];
}

/** @param {number} time */
function formatDate(time) {
  return new Intl.DateTimeFormat(document.documentElement.lang, {day: 'numeric', month: 'long', hour: '2-digit', minute: '2-digit'}).format(time);
}
