import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addStyle, button, element } from "./elements.js";
import { addElement, enlarge, findNode, rootGraph, whenRemoved } from "./graph.js";
import { Microphone } from "./talk/microphone.js";
import { TalkSocket } from "./talk/socket.js";

// While a run with LiveAvatar Live Speech listens, its node shows where to post speech, and lets one speak from here:
// through the microphone, or with a sound file. Only the page that has started the run is told the id.

const NODE = "LiveAvatarLiveSpeech";
const WIDGET = "liveavatar-speech";
const HEIGHT = 84;

const STYLE = `
.liveavatar-speech { display: flex; flex-wrap: wrap; gap: 4px; align-content: flex-start; font: 12px sans-serif;
    color: var(--input-text, #ddd); }
.liveavatar-speech[hidden] { display: none; }
.liveavatar-speech output { flex-basis: 100%; overflow-wrap: anywhere; }
.liveavatar-speech button { font: inherit; color: inherit; background: var(--comfy-input-bg, #222); cursor: pointer;
    border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; padding: 2px 8px; }
.liveavatar-speech button[aria-pressed="true"] { background: #a33; color: #fff; }
`;

/** The line and the buttons on one node. */
class Speaker {
    #path = null;
    #microphone = null;
    #socket = null; // on which it is heard
    #posts = Promise.resolve();

    constructor() {
        this.line = element("output");
        this.element = element("div", { className: "liveavatar-speech", hidden: true }, this.line);
        this.talkButton = button("Microphone", "Let the avatar speak what you say", () =>
            this.#microphone ? this.#silence() : this.#listen(),
        );
        this.element.append(
            this.talkButton,
            button("Sound file…", "Let the avatar speak a file", () => this.#choose()),
            button("Stop talking", "Drop what waits to be spoken", () => this.post("?replace=1")),
            button("End", "Speak what waits, then end the video", () => this.post("/end")),
            button("Copy address", "Where programs post speech", () =>
                navigator.clipboard?.writeText(this.line.textContent),
            ),
        );
        this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
    }

    /** A run listens under this id. */
    open(id) {
        this.#path = `/liveavatar/speech/${id}`;
        this.line.textContent = new URL(api.apiURL(this.#path), location.href).href;
        this.element.hidden = false;
    }

    /** The run is over. */
    close() {
        this.#silence();
        this.#path = null;
        this.element.hidden = true;
    }

    /** Posts arrive in the order in which they are made. */
    post(query, body) {
        const path = this.#path;
        this.#posts = this.#posts.then(async () => {
            if (path === null) return;
            const response = await api.fetchApi(path + query, { method: "POST", body }).catch((error) => error);
            if (!response.ok && path === this.#path) this.#say(response.text ? await response.text() : response.message);
        });
        return this.#posts;
    }

    #say(text) {
        app.extensionManager?.toast?.add({ severity: "warn", summary: "Live speech", detail: text, life: 5000 });
    }

    #choose() {
        const input = document.createElement("input");
        input.type = "file";
        input.accept = "audio/*,video/*";
        input.addEventListener("change", () => input.files[0] && this.post("", input.files[0]));
        input.click();
    }

    async #listen() {
        const socket = (this.#socket = new TalkSocket(`${this.#path}/microphone`));
        const lose = (text) => {
            if (this.#socket !== socket) return;
            this.#silence();
            this.#say(text);
        };
        socket.addEventListener("message", ({ detail }) => lose(detail.message));
        socket.addEventListener("gone", () => this.#silence());
        this.#microphone = new Microphone(
            this.#path,
            (piece) => socket.hear(piece),
            () => lose("Connect the microphone again: it was unplugged."),
        );
        this.talkButton.ariaPressed = "true";
        await this.#microphone.open().catch((error) => lose(error.message));
    }

    #silence() {
        this.#microphone?.close();
        this.#socket?.close();
        this.#microphone = this.#socket = null;
        this.talkButton.ariaPressed = "false";
    }
}

const speakers = new Map(); // node -> Speaker

function addSpeaker(node) {
    const speaker = new Speaker();
    addElement(node, WIDGET, speaker.element, { getMinHeight: () => HEIGHT });
    speakers.set(node, speaker);
    whenRemoved(node, () => {
        speakers.delete(node);
        speaker.close();
    });
    enlarge(node);
    return speaker;
}

app.registerExtension({
    name: "LiveAvatar.LiveSpeech",
    setup() {
        addStyle("speech", STYLE);
        api.addEventListener("liveavatar.speech", ({ detail }) => {
            if (detail.workflow !== (rootGraph()?.id ?? null)) return;
            const node = findNode(detail.node);
            if (node?.type === NODE) (speakers.get(node) ?? addSpeaker(node)).open(detail.id);
        });
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
            api.addEventListener(kind, () => speakers.forEach((speaker) => speaker.close()));
    },
});
