/** The choice to remember a room on this device, and its name. */

import {create, setText} from './dom.js';
import {MAX_NAME_LENGTH, rememberedRooms, watchRooms} from './remember.js';
import * as strings from './strings.js';

const texts = strings.share;

/** RememberBox fills an element. Opening the page of a remembered room marks it as used. */
export class RememberBox {
  #room;
  #page;
  #check = create('input', {type: 'checkbox', id: 'remember', class: 'remember-check'});
  #name = create('input', {
    'type': 'text', 'id': 'remember-name', 'class': 'remember-name', 'dir': 'auto', 'maxlength': MAX_NAME_LENGTH,
    'autocomplete': 'off', 'placeholder': texts.roomNamePlaceholder, 'aria-label': texts.roomName,
  });
  #hint = create('p', {class: 'remember-hint', role: 'status'});

  /**
   * @param {HTMLElement} root
   * @param {{room: import('./room.js').Room, page: import('./remember.js').RoomPage}} options page is this page
   */
  constructor(root, {room, page}) {
    this.#room = room;
    this.#page = page;
    root.replaceChildren(
      create('label', {class: 'remember-label', for: 'remember'}, this.#check, create('span', {}, texts.remember)),
      this.#name, this.#hint);
    this.#check.addEventListener('change', () => this.#onCheck());
    this.#name.addEventListener('input', () => rememberedRooms.update(room.id, {name: this.#name.value}));
    watchRooms(() => this.#render());
    rememberedRooms.update(room.id, {page, used: Date.now()});
    this.#render();
  }

  #onCheck() {
    const {id, secret, pass} = this.#room;
    if (!this.#check.checked) rememberedRooms.forget(id);
    const kept = !this.#check.checked || rememberedRooms.remember({id, secret, page: this.#page, name: this.#name.value, used: Date.now(), ...pass && {pass}});
    this.#render();
    dispatchEvent(new Event('remembered'));
    if (!kept) setText(this.#hint, texts.notRemembered);
    else if (this.#check.checked) this.#name.focus();
  }

  #render() {
    const kept = rememberedRooms.find(this.#room.id);
    this.#check.checked = kept !== undefined;
    this.#name.hidden = !kept;
    if (kept && document.activeElement !== this.#name) this.#name.value = kept.name;
    setText(this.#hint, kept ? texts.rememberHint : '');
  }
}
