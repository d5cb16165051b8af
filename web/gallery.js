import { api } from "../../scripts/api.js";

// The host lists the workflows of a pack as its disk does, in no order. In ours, the one that needs no model is first.

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));
const listed = api.getWorkflowTemplates;

api.getWorkflowTemplates = async function () {
    const templates = await listed.call(this);
    templates[PACK]?.sort();
    return templates;
};
