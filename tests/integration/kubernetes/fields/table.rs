//! Options, the object that they end in, where in it, and the value that has to be there.

/// Options that no object shows: they say what Outpost does, and have tests of their own.
pub const ELSEWHERE: &[&str] = &[
    "events_enabled",
    "namespace",
    "profile_list",
    "start_timeout",
    "pod_connect_ip",
    "slow_spawn_message",
    "slow_spawn_message_frequency",
    "slow_spawn_message_threshold",
];

#[rustfmt::skip]
pub const FIELDS: &[(&str, &str, &str, &str)] = &[
    // The container.
    ("", "pod", "/spec/containers/0/name", r#""notebook""#),
    ("image = 'site/other:2'", "pod", "/spec/containers/0/image", r#""site/other:2""#),
    ("image_pull_policy = 'Always'", "pod", "/spec/containers/0/imagePullPolicy", r#""Always""#),
    ("image_pull_secrets = ['a', { name = 'b' }]", "pod", "/spec/imagePullSecrets", r#"[{"name": "a"}, {"name": "b"}]"#),
    ("cmd = ['jupyterhub-singleuser']\nargs = ['--a', '--b=c']", "pod", "/spec/containers/0/args", r#"["jupyterhub-singleuser", "--a", "--b=c"]"#),
    ("working_dir = '/home/jovyan'", "pod", "/spec/containers/0/workingDir", r#""/home/jovyan""#),
    ("port = 9999", "pod", "/spec/containers/0/ports", r#"[{"containerPort": 9999, "name": "notebook-port", "protocol": "TCP"}]"#),
    ("port = 9998\nservices_enabled = true", "service", "/spec/ports/0/port", "9998"),
    ("lifecycle_hooks = { postStart = { exec = { command = ['true'] } } }", "pod", "/spec/containers/0/lifecycle", r#"{"postStart": {"exec": {"command": ["true"]}}}"#),
    ("privileged = true\nallow_privilege_escalation = true", "pod", "/spec/containers/0/securityContext/privileged", "true"),
    ("allow_privilege_escalation = false", "pod", "/spec/containers/0/securityContext/allowPrivilegeEscalation", "false"),
    ("container_security_context = { readOnlyRootFilesystem = true }", "pod", "/spec/containers/0/securityContext/readOnlyRootFilesystem", "true"),
    ("extra_container_config = { terminationMessagePath = '/tmp/end' }", "pod", "/spec/containers/0/terminationMessagePath", r#""/tmp/end""#),
    // What the server is told.
    ("environment = { SITE = 'yes' }", "environment", "/SITE/value", r#""yes""#),
    ("environment = { SITE_TOKEN = 'of-{username}' }", "environment", "/SITE_TOKEN/valueFrom/secretKeyRef/key", r#""SITE_TOKEN""#),
    ("environment = { SITE_TOKEN = 'of-{username}' }", "secret", "/data/SITE_TOKEN", r#""b2YtYWRh""#),
    ("environment = { NODE = { name = 'NODE', valueFrom = { fieldRef = { fieldPath = 'spec.nodeName' } } } }", "environment", "/NODE/valueFrom/fieldRef/fieldPath", r#""spec.nodeName""#),
    ("debug = true", "environment", "/JUPYTERHUB_DEBUG/value", r#""1""#),
    ("disable_user_config = true", "environment", "/JUPYTERHUB_DISABLE_USER_CONFIG/value", r#""1""#),
    ("default_url = '/lab'", "environment", "/JUPYTERHUB_DEFAULT_URL/value", r#""/lab""#),
    ("notebook_dir = '/data'", "environment", "/JUPYTERHUB_ROOT_DIR/value", r#""/data""#),
    ("ip = '::'\nport = 7000", "environment", "/JUPYTERHUB_SERVICE_URL/value", r#""http://[::]:7000/""#),
    // Resources.
    ("mem_limit = '2G'", "pod", "/spec/containers/0/resources/limits/memory", r#""2147483648""#),
    ("mem_guarantee = '1G'", "pod", "/spec/containers/0/resources/requests/memory", r#""1073741824""#),
    ("cpu_limit = 2", "pod", "/spec/containers/0/resources/limits/cpu", r#""2""#),
    ("cpu_guarantee = 0.5", "pod", "/spec/containers/0/resources/requests/cpu", r#""500m""#),
    ("extra_resource_limits = { 'nvidia.com/gpu' = '1' }", "pod", "/spec/containers/0/resources/limits/nvidia.com~1gpu", r#""1""#),
    ("extra_resource_guarantees = { 'ephemeral-storage' = '1Gi' }", "pod", "/spec/containers/0/resources/requests/ephemeral-storage", r#""1Gi""#),
    // Who it is.
    ("uid = 1000", "pod", "/spec/containers/0/securityContext/runAsUser", "1000"),
    ("gid = 100", "pod", "/spec/containers/0/securityContext/runAsGroup", "100"),
    ("fs_gid = 100", "pod", "/spec/securityContext/fsGroup", "100"),
    ("supplemental_gids = [5, 6]", "pod", "/spec/securityContext/supplementalGroups", "[5, 6]"),
    ("pod_security_context = { runAsNonRoot = true }", "pod", "/spec/securityContext/runAsNonRoot", "true"),
    ("service_account = 'notebooks'", "pod", "/spec/serviceAccountName", r#""notebooks""#),
    ("automount_service_account_token = true", "pod", "/spec/automountServiceAccountToken", "true"),
    // Volumes.
    ("volumes = [{ name = 'scratch', emptyDir = {} }]", "pod", "/spec/volumes/0", r#"{"name": "scratch", "emptyDir": {}}"#),
    ("volumes = { a = { name = 'scratch', emptyDir = {} } }\nvolume_mounts = [{ name = 'scratch', mountPath = '/scratch' }]", "pod", "/spec/containers/0/volumeMounts/0", r#"{"name": "scratch", "mountPath": "/scratch"}"#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'", "claim", "/spec/resources/requests/storage", r#""2Gi""#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'\nstorage_class = 'fast'", "claim", "/spec/storageClassName", r#""fast""#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'\nstorage_access_modes = ['ReadWriteMany']", "claim", "/spec/accessModes", r#"["ReadWriteMany"]"#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'\nstorage_selector = { matchLabels = { content = 'jupyter' } }", "claim", "/spec/selector", r#"{"matchLabels": {"content": "jupyter"}}"#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'\nstorage_extra_labels = { of = '{username}' }", "claim", "/metadata/labels/of", r#""ada""#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'\nstorage_extra_annotations = { of = '{username}' }", "claim", "/metadata/annotations/of", r#""ada""#),
    ("storage_pvc_ensure = true\nstorage_capacity = '2Gi'\npvc_name_template = 'volume-{username}'", "claim", "/metadata/name", r#""volume-ada""#),
    // Other containers.
    ("init_containers = [{ name = 'first', image = 'busybox' }]", "pod", "/spec/initContainers/0/name", r#""first""#),
    ("extra_containers = [{ name = 'beside', image = 'busybox' }]", "pod", "/spec/containers/1/name", r#""beside""#),
    // Where it runs.
    ("node_selector = { disk = 'ssd' }", "pod", "/spec/nodeSelector", r#"{"disk": "ssd"}"#),
    ("tolerations = [{ key = 'gpu', operator = 'Exists' }]", "pod", "/spec/tolerations/0", r#"{"key": "gpu", "operator": "Exists"}"#),
    ("node_affinity_preferred = [{ weight = 1, preference = { matchExpressions = [{ key = 'a', operator = 'Exists' }] } }]", "pod", "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", "1"),
    ("node_affinity_required = [{ matchExpressions = [{ key = 'a', operator = 'Exists' }] }]", "pod", "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/key", r#""a""#),
    ("pod_affinity_preferred = [{ weight = 2, podAffinityTerm = { topologyKey = 'zone' } }]", "pod", "/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", "2"),
    ("pod_affinity_required = [{ topologyKey = 'zone' }]", "pod", "/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey", r#""zone""#),
    ("pod_anti_affinity_preferred = [{ weight = 3, podAffinityTerm = { topologyKey = 'zone' } }]", "pod", "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", "3"),
    ("pod_anti_affinity_required = [{ topologyKey = 'zone' }]", "pod", "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey", r#""zone""#),
    ("scheduler_name = 'jupyter-scheduler'", "pod", "/spec/schedulerName", r#""jupyter-scheduler""#),
    ("priority_class_name = 'high-of-tests'", "pod", "/spec/priority", "1000"),
    ("port = 8888\nextra_pod_config = { hostNetwork = true, dnsPolicy = 'ClusterFirstWithHostNet' }", "pod", "/spec/dnsPolicy", r#""ClusterFirstWithHostNet""#),
    ("delete_grace_period = 7", "place", "/grace_period", "7"),
    // Where users have namespaces of their own.
    ("enable_user_namespaces = true\nuser_namespace_template = 'of-{username}-{uid}'\nuser_namespace_labels = { of = '{username}' }", "namespace", "/metadata/labels/of", r#""ada""#),
    ("enable_user_namespaces = true\nuser_namespace_template = 'of-{username}-{uid}'\nuser_namespace_annotations = { of = '{username}' }", "namespace", "/metadata/annotations/of", r#""ada""#),
    // With internal TLS.
    ("secret_mount_path = '/tls/'", "pod", "/spec/containers/0/volumeMounts/0/mountPath", r#""/tls/""#),
    // Its names and labels.
    ("pod_name_template = 'notebook-{username}'", "pod", "/metadata/name", r#""notebook-ada""#),
    ("slug_scheme = 'escape'\npod_name_template = 'x-{username}-{servername}'", "pod", "/metadata/name", r#""x-ada-lab""#),
    ("secret_name_template = 'secret-{username}'", "secret", "/metadata/name", r#""secret-ada""#),
    ("services_enabled = true\npod_name_template = 'notebook-{username}'", "service", "/metadata/name", r#""notebook-ada""#),
    ("services_enabled = true\npod_name_template = 'x'\ndns_name_template = '{name}.cluster'", "place", "/host", r#""x.cluster""#),
    ("extra_labels = { of = '{username}' }", "pod", "/metadata/labels/of", r#""ada""#),
    ("extra_annotations = { of = '{username}' }", "pod", "/metadata/annotations/of", r#""ada""#),
    ("common_labels = { app = 'ours' }", "pod", "/metadata/labels/app", r#""ours""#),
    ("component_label = 'lab'", "pod", "/metadata/labels/component", r#""lab""#),
    ("", "pod", "/metadata/labels/outpost.jupyter.org~1installation", r#""installation""#),
    ("", "pod", "/metadata/annotations/hub.jupyter.org~1username", r#""ada""#),
];
