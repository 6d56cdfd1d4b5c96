import "./live";
import "./dialog";
import "./menu";
import "./panel";
import "./toasts";
import "./copy";
import "./keys";
import "./appearance";
