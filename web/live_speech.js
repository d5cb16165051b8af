import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement, findNode, rootGraph } from "./graph.js";

// While a run with LiveAvatar Live Speech listens, its node shows where to post speech, and lets one speak from here:
// through the microphone, or with a sound file. Only the page that has started the run is told the id.

const NODE = "LiveAvatarLiveSpeech";
const WIDGET = "liveavatar-speech";
const HEIGHT = 84;
const SAMPLES = 4096; // of the microphone, per post

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
    #posts = Promise.resolve();

    constructor() {
        this.element = document.createElement("div");
        this.element.className = "liveavatar-speech";
        this.element.hidden = true;
        this.line = document.createElement("output");
        this.element.append(this.line);
        this.talkButton = this.#button("Microphone", () => (this.#microphone ? this.#silence() : this.#listen()));
        this.#button("Sound file…", () => this.#choose());
        this.#button("Stop talking", () => this.post("?replace=1"));
        this.#button("End", () => this.post("/end"));
        this.#button("Copy address", () => navigator.clipboard?.writeText(this.line.textContent));
        this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
    }

    #button(text, act) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = text;
        button.addEventListener("click", act);
        this.element.append(button);
        return button;
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
        const context = new AudioContext();
        this.#microphone = { context };
        try {
            if (!navigator.mediaDevices) throw new Error("The microphone needs a page by https or from localhost.");
            const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
            if (this.#microphone?.context !== context) return stream.getTracks().forEach((track) => track.stop());
            // Not an AudioWorklet: the page's security policy may forbid to load one.
            const tap = context.createScriptProcessor(SAMPLES, 1, 1);
            tap.onaudioprocess = ({ inputBuffer }) =>
                this.post(`?rate=${context.sampleRate}&format=f32`, inputBuffer.getChannelData(0).slice());
            context.createMediaStreamSource(stream).connect(tap);
            tap.connect(context.destination); // it runs only when somebody listens; it gives silence
            Object.assign(this.#microphone, { stream, tap });
            this.talkButton.setAttribute("aria-pressed", "true");
        } catch (error) {
            this.#silence();
            this.#say(error.message);
        }
    }

    #silence() {
        const { context, stream, tap } = this.#microphone ?? {};
        this.#microphone = null;
        if (tap) tap.onaudioprocess = null;
        stream?.getTracks().forEach((track) => track.stop());
        context?.close();
        this.talkButton.setAttribute("aria-pressed", "false");
    }
}

const speakers = new Map(); // node -> Speaker

function addSpeaker(node) {
    const speaker = new Speaker();
    addElement(node, WIDGET, speaker.element, { getMinHeight: () => HEIGHT });
    speakers.set(node, speaker);
    const removed = node.onRemoved;
    node.onRemoved = function (...values) {
        removed?.apply(this, values);
        speakers.delete(node);
        speaker.close();
    };
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
    return speaker;
}

app.registerExtension({
    name: "LiveAvatar.LiveSpeech",
    setup() {
        document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
        api.addEventListener("liveavatar.speech", ({ detail }) => {
            if (detail.workflow !== (rootGraph()?.id ?? null)) return;
            const node = findNode(detail.node);
            if (node?.type === NODE) (speakers.get(node) ?? addSpeaker(node)).open(detail.id);
        });
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
            api.addEventListener(kind, () => speakers.forEach((speaker) => speaker.close()));
    },
});
